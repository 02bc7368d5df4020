"""A camera that somebody has to unlock: by touching a FIDO2 key, or with the PIN over the control socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM
from integration.conftest import Company, Launch
from integration.running import Running, nothing_leaked, opened
from support.card import fido_key, pcscd
from support.card.fido_authenticator import Authenticator
from support.card.pcscd import SOCKET_VARIABLE, Pcscd

pytestmark = pytest.mark.timeout(300)

_KEY_PIN = "2468013579"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Pcscd]:
    with pcscd.running(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def pin(company: Company) -> str:
    return (company.camera.folder / "pin").read_text().strip()


def ask(running: Running, *arguments: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "token", "unlock", *arguments, "--config", running.folder / "dongled.toml"],
        env={**os.environ}, input=said, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def token_is(running: Running, state: str, why: str = "") -> None:
    def so(_: object) -> bool:
        token = running.status().token
        return token.state == state and why in token.why

    running.until(so)


@pytest.mark.fault("unlocked by an operator, who is wrong first")
def test_an_operator_hands_the_pin_over(company: Company, launch: Launch, pin: str) -> None:
    own = company.camera.folder / "pin"
    camera = launch("camera", changes={f'pin-file = "{own}"': "pin-prompt = true"})
    token_is(camera, "LOCKED", "[pin-wanted]")
    wrong = ask(camera, said="9" + pin + "\n")
    assert wrong.returncode == 78, wrong.stderr
    assert "[pin-wrong]" in wrong.stderr
    right = ask(camera, said=pin + "\n")
    assert right.returncode == 0, right.stderr
    assert right.stdout == "the token is READY\n"
    again = ask(camera, said=pin + "\n")
    assert "[not-locked]" in again.stderr
    viewer = launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 3)
    nothing_leaked(camera, pin)
    for asked in (wrong, right, again):
        assert pin not in asked.stdout + asked.stderr


@pytest.mark.fault("unlocked by FIDO2, through a reader, with a second key")
def test_a_fido_key_unlocks_the_camera(
    company: Company, launch: Launch, pin: str, reader: Pcscd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(reader.path))
    for name, value in company.camera.env.items():
        monkeypatch.setenv(name, value)
    own, vault = company.camera.folder / "pin", tmp_path / "pin-fido.json"
    first, second = Authenticator(), Authenticator(_KEY_PIN)
    key_pin = tmp_path / "key-pin"
    key_pin.touch(0o600)
    key_pin.write_text(_KEY_PIN)
    camera = launch("camera", changes={f'pin-file = "{own}"': f'pin-fido = "{vault}"'})
    token_is(camera, "LOCKED", "[fido-not-enrolled]")
    with fido_key.inserted(reader, first), fido_key.touching(first):
        done = ask(camera, "enroll", "blue", "--pin-file", own)
        assert done.returncode == 0, done.stderr
        token_is(camera, "READY")
        assert "touch the FIDO2 key" in camera.log
        viewer = launch("viewer")
        viewer.until(lambda meeting: opened(meeting) > 3)
    with fido_key.inserted(reader, second, slot=1), fido_key.touching(second):
        done = ask(camera, "enroll", "red", "--verify", "--pin-file", own, "--fido-pin-file", key_pin)
        assert done.returncode == 0, done.stderr
        tested = ask(camera, "test", "--fido-pin-file", key_pin)
        assert tested.returncode == 0, tested.stderr
        camera.stop()
        camera = launch("camera", "again", {f'pin-file = "{own}"': f'pin-fido = "{vault}"'})
        # It knows its user by a PIN, which takes an operator.
        token_is(camera, "LOCKED", "[fido-pin-wanted]")
        wrong = ask(camera, "--fido", said="1" + _KEY_PIN)
        assert "[fido-pin-wrong]" in wrong.stderr
        assert ask(camera, "--fido", said=_KEY_PIN).returncode == 0
        token_is(camera, "READY")
    listed = ask(camera, "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["blue", "red"]
    assert ask(camera, "remove", "blue").returncode == 0
    assert ask(camera, "list").stdout.split()[0] == "red"
    nothing_leaked(camera, pin, _KEY_PIN)
    for text in (done, tested, wrong, listed):
        assert pin not in text.stdout + text.stderr
        assert _KEY_PIN not in text.stdout + text.stderr


@pytest.mark.fault("credential missing, empty or damaged: starts LOCKED")
@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_credential_that_is_not_there_leaves_it_locked_and_running(
    company: Company,
    launch: Launch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pin: str,
    content: bytes | None,
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    if content is not None:
        (credentials / "token-pin").write_bytes(content)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    own = company.camera.folder / "pin"
    camera = launch("camera", changes={f'pin-file = "{own}"': 'pin-credential = "token-pin"'})
    token_is(camera, "LOCKED", "[pin-file]" if content is None else "[pin-malformed]")
    assert ask(camera, said=pin).returncode == 0
    token_is(camera, "READY")
