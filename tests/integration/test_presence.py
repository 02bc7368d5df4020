"""A camera that shows one of its streams only where somebody who is known touches a FIDO2 key."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM
from dongled.agent.status import MeetingStatus
from integration.conftest import Company, Launch
from support.card import fido_key, pcscd
from support.card.bench import wait_until
from support.card.fido_authenticator import Authenticator
from support.card.pcscd import SOCKET_VARIABLE, Pcscd

pytestmark = [pytest.mark.timeout(300), pytest.mark.property("P3")]

_VAULT = """[[stream]]
id = "vault"
source = "testsrc"
width = 320
height = 240
fps = 5
bitrate = 100000

[[meeting]]"""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pcscd]:
    with pcscd.running(tmp_path) as daemon:
        monkeypatch.setenv(SOCKET_VARIABLE, str(daemon.path))
        yield daemon


@contextmanager
def in_reader(reader: Pcscd, key: Authenticator) -> Iterator[None]:
    """Gone for pcscd too when it is out, so that the next one is not taken for it."""
    with fido_key.inserted(reader, key):
        yield
    wait_until("absent", reader, 0)


def register(name: str, file: Path, terminal: str, key: Authenticator, reader: Pcscd) -> None:
    with in_reader(reader, key), fido_key.touching(key):
        done = subprocess.run(
            [PROGRAM, "presence", "register", name, "--file", file, "--terminal", terminal],
            env={**os.environ}, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "touch the FIDO2 key" in done.stderr


def opened_of(meeting: MeetingStatus, stream: str) -> int:
    return sum(each.frames_opened for each in meeting.receiving if each.stream == stream)


def test_the_vault_is_seen_where_somebody_known_is_present(
    company: Company, launch: Launch, reader: Pcscd, tmp_path: Path
) -> None:
    """Not with the key of somebody who is known at another terminal, nor without any."""
    alice, bob = Authenticator(), Authenticator()
    people, forged = tmp_path / "presence.json", tmp_path / "forged.json"
    register("bob", people, company.camera.urn, bob, reader)
    forged.write_text(people.read_text().replace(company.camera.urn, company.viewer.urn))
    register("alice", people, company.viewer.urn, alice, reader)
    camera = launch(
        "camera",
        changes={
            "[[meeting]]": _VAULT,
            'publish = ["camera"]': 'publish = ["camera", "vault"]',
            "[state]": f'[presence]\ncredentials = ["{people}"]\nrequire-for = ["vault"]\n\n[state]',
        },
    )
    show = f'[presence]\ncredentials = ["{{}}"]\nshow-to = ["{company.camera.urn}"]\n\n[state]'
    with in_reader(reader, bob), fido_key.touching(bob):
        viewer = launch("viewer", "forging", {"[state]": show.format(forged)})
        camera.until(lambda meeting: meeting.refused.get("presence-other-terminal"))
        # From then on it asks without.
        camera.until(lambda meeting: meeting.refused.get("presence-missing"))
        seen = viewer.until(lambda meeting: opened_of(meeting, "camera") > 3)
        assert opened_of(seen, "vault") == 0
        viewer.stop()
    with in_reader(reader, alice):
        viewer = launch("viewer", changes={"[state]": show.format(people)})
        viewer.until(lambda _: "touch-wanted" in {each.id for each in viewer.status().warnings})
        assert opened_of(viewer.status().meetings[0], "vault") == 0
        with fido_key.touching(alice):
            viewer.until(lambda meeting: opened_of(meeting, "vault") > 3)
    assert "touch the FIDO2 key: CN=camera wants somebody present" in viewer.log
    assert "alice touched a FIDO2 key" in camera.log
