"""What settings allow must be what the rooms accept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.wiring import janus_settings, read_files, sink_maker
from dongled.config.api import ConfigError, MeetingSettings, SinkSettings
from dongled.media.sinks import NullSink


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
