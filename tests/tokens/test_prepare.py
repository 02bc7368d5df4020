"""One line prepares a device: the same one again changes nothing, and nothing of another's is touched."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM
from dongled.config.api import load
from dongled.tokens import provision, softhsm
from dongled.tokens.api import KeyRole
from dongled.tokens.pin import PinFile

# All that the devices of a fleet have in common.
IMAGE = """
[token]
pin-file = "pin"
[trust]
roots = ["root.pem"]
[[meeting]]
name = "lobby"
room = "lobby"
[meeting.sfu]
url = "ws://127.0.0.1:8188"
"""


class Device:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.env = {**os.environ, **softhsm.configure(folder / "softhsm")}
        (folder / "dongled.toml").write_text(IMAGE)
        (folder / "root.pem").write_text("")

    @property
    def drop_in(self) -> Path:
        return self.folder / "conf.d" / "50-token.toml"

    def prepare(self, *more: str) -> subprocess.CompletedProcess[str]:
        line: list[str | Path] = [
            PROGRAM, "token", "prepare", "--module", softhsm.find_module(), "--pin-file", self.folder / "pin",
            "--so-pin-file", self.folder / "so-pin", "--drop-in", self.drop_in, *more,
        ]  # fmt: skip
        return subprocess.run(line, env=self.env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


async def test_one_line_and_the_configuration_is_whole(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = device.prepare()
    assert done.returncode == 0, done.stderr
    settings = load(device.folder / "dongled.toml", {}, {}, None)
    assert settings.token is not None
    monkeypatch.setenv("SOFTHSM2_CONF", device.env["SOFTHSM2_CONF"])
    pin = PinFile(device.folder / "pin")
    report = await provision.show(str(settings.token.module), settings.token.uri, pin)
    assert report.keys[KeyRole.IDENTITY].sha256 == settings.token.identity.digest
    assert report.keys[KeyRole.DATA].sha256 == settings.token.data.digest
    for name in ("pin", "so-pin"):
        secret = device.folder / name
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.read_text().strip() not in done.stdout + done.stderr + device.drop_in.read_text()


def test_the_same_line_again_changes_nothing(device: Device) -> None:
    first = device.prepare()
    before = {path: path.read_bytes() for path in (device.drop_in, device.folder / "pin")}
    assert device.prepare().stdout == first.stdout
    device.drop_in.unlink()
    assert device.prepare().returncode == 0
    assert before == {path: path.read_bytes() for path in before}


def test_another_token_is_not_taken_for_it(device: Device, tmp_path: Path) -> None:
    other = Device(tmp_path / "other")
    assert other.prepare().returncode == 0
    device.drop_in.parent.mkdir()
    device.drop_in.write_text(other.drop_in.read_text())
    refused = device.prepare()
    assert refused.returncode != 0
    assert "[already-prepared]" in refused.stderr
    assert device.drop_in.read_text() == other.drop_in.read_text()


def test_a_wrong_pin_makes_nothing(device: Device) -> None:
    assert device.prepare().returncode == 0
    device.drop_in.unlink()
    (device.folder / "pin").write_text("00000000\n")
    assert device.prepare().returncode != 0
    assert not device.drop_in.exists()
