"""What settings allow must be what the rooms accept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.files import TEXT, VIEWER, write
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.protocol.api import Evidence
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.wiring import (
    change_trust,
    janus_settings,
    open_touches,
    open_trust,
    read_files,
    registered,
    sink_maker,
)
from dongled.config.api import ConfigError, MeetingSettings, Settings, SinkSettings, load
from dongled.media.sinks import NullSink
from dongled.tokens.fido.registered import Registration, encode
from support.authority import DAY, TERMINAL, Authority, der, pem
from support.evidence import SHOWN
from support.touch import SoftKey

OTHER = "urn:uuid:22222222-2222-4333-8444-555555555555"
VIEWER_POLICIES = (ROLE_OIDS[Role.VIEWER], ASSURANCE_OIDS[Assurance.SOFTWARE])


@given(st.one_of(st.integers(1, 2**53), st.text("aZ9._- é\n", max_size=46)))
def test_the_settings_take_the_rooms_that_can_be_joined_and_no_others(room: int | str) -> None:
    try:
        # Strict, as files are read.
        meeting = MeetingSettings.model_validate(
            {"name": "m", "room": room, "sfu": {"url": "wss://sfu"}}, strict=True
        )
    except ValidationError:
        with pytest.raises(SfuError):
            JanusSettings("wss://sfu", str(room))
    else:
        assert janus_settings(meeting).room == str(room)


def test_a_plain_meeting_has_no_bus_and_an_encrypted_one_has() -> None:
    for encryption, encrypted in (("plain", False), ("required", True)):
        meeting = MeetingSettings.model_validate(
            {"name": "m", "room": 1, "encryption": encryption, "sfu": {"url": "wss://sfu"}}
        )
        assert janus_settings(meeting).encrypted is encrypted


def test_no_sink_configured_means_none_made() -> None:
    assert sink_maker(())("urn:uuid:x", "camera").pictures == []
    counted = sink_maker((SinkSettings.model_validate({"kind": "null"}),))("urn:uuid:x", "camera")
    assert isinstance(counted.pictures[0], NullSink)


def test_a_root_that_cannot_be_read_is_the_configurations_fault(tmp_path: Path) -> None:
    """Tried again and again it would be by systemd, and nobody told."""
    (tmp_path / "root.pem").write_bytes(b"PEM")
    assert read_files([tmp_path / "root.pem"]) == [b"PEM"]
    with pytest.raises(ConfigError) as refused:
        read_files([tmp_path / "root.pem", tmp_path])
    assert (refused.value.reason, refused.value.exit_code) == ("file-unreadable", 78)
    assert str(tmp_path) in str(refused.value)


# --- presence


def present(directory: Path, text: str = "", **files: list[Registration]) -> Settings:
    """Settings with these files of people, and this in [presence]."""
    names = []
    for name, people in files.items():
        (directory / name).write_text(encode(people))
        names.append(name)
    listed = f"[presence]\ncredentials = {json.dumps(names)}\n{text}\n[[stream]]"
    return load(write(directory, TEXT.replace("[[stream]]", listed, 1)), {}, {})


def test_whose_touch_counts_is_read_from_all_files(tmp_path: Path) -> None:
    alice, bob = SoftKey().registered("alice", VIEWER), SoftKey().registered("bob", OTHER)
    settings = present(tmp_path, 'show-to = ["*"]\nverify = true', one=[alice], two=[bob])
    assert registered(settings.presence.credentials) == [alice, bob]
    touches = open_touches(settings, VIEWER)
    assert touches is not None
    assert (list(touches.people), touches.verified) == ([alice], True)
    with pytest.raises(AgentError) as refused:
        open_touches(settings, "urn:uuid:x")
    assert refused.value.reason == "presence-nobody"
    assert open_touches(present(tmp_path, one=[alice]), VIEWER) is None


def test_what_is_no_such_file_stops_the_start(tmp_path: Path) -> None:
    """Nobody is let in, nor kept out, by a file that was damaged."""
    alice = SoftKey().registered("alice", VIEWER)
    settings = present(tmp_path, 'require-for = ["camera"]', one=[alice])
    (tmp_path / "root.pem").write_bytes(pem(Authority.root().certificate))
    assert isinstance(open_trust(settings).policy, CertificatePolicy)
    (tmp_path / "one").write_text("{")
    with pytest.raises(AgentError) as refused:
        open_trust(settings)
    assert refused.value.reason == "presence-file"
    (tmp_path / "one").unlink()
    with pytest.raises(ConfigError):
        open_trust(settings)
    with pytest.raises(AgentError) as refused:
        open_trust(present(tmp_path, 'require-for = ["*"]', one=[alice], two=[alice]))
    assert refused.value.reason == "presence-doubled"


def test_a_policy_of_these_settings_wants_a_touch(tmp_path: Path) -> None:
    alice, now = SoftKey(), datetime.now(UTC)
    root = Authority.root(begin=now - DAY, end=now + DAY)
    (tmp_path / "root.pem").write_bytes(pem(root.certificate))
    text = 'require-for = ["camera"]\nlasts = 60'
    settings = present(tmp_path, text, one=[alice.registered("alice", TERMINAL)])
    trust = settings.trust.model_copy(
        update={"minimum_assurance": "software", "revocation": "off", "allow_viewers": ("*",)}
    )
    settings = settings.model_copy(update={"trust": trust})
    opened = open_trust(settings)
    policy = opened.policy
    viewer = root.leaf(begin=now - DAY, end=now + DAY, policies=VIEWER_POLICIES)
    identity = policy.check_identity([der(viewer)])
    with pytest.raises(PolicyRefused) as refused:
        policy.may_view(identity, "camera", SHOWN)
    assert refused.value.reason == "presence-missing"
    shown = replace(SHOWN, evidence=Evidence(fido=alice.touch(SHOWN.challenge)))
    grounds = "on the list of viewers, alice touched a FIDO2 key"
    assert policy.may_view(identity, "camera", shown) == grounds
    # What is wrong changes nothing; whoever is removed counts no longer.
    (tmp_path / "one").write_text("{")
    with pytest.raises(AgentError):
        change_trust(opened, settings)
    assert policy.may_view(identity, "camera", shown) == grounds
    (tmp_path / "one").write_text(encode([SoftKey().registered("bob", TERMINAL)]))
    change_trust(opened, settings)
    with pytest.raises(PolicyRefused) as refused:
        policy.may_view(identity, "camera", shown)
    assert refused.value.reason == "presence-unregistered"
