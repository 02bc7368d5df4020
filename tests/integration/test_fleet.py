"""Devices of a fleet: one image for all, one line on each, and they meet."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM, start, stop
from dongled.tokens import softhsm
from integration.running import Running, opened
from support.authority import pem
from support.est import USER, Platform, platform
from support.janus import JanusServer

pytestmark = [pytest.mark.timeout(300), pytest.mark.property("P3")]


def image(served: Platform, janus: JanusServer) -> str:
    """What the devices have in common: all of their configuration."""
    return f"""\
[token]
pin-file = "pin"
[trust]
roots = ["root.pem"]
allow-viewers = ["*"]
allow-publishers = ["*"]
minimum-assurance = "software"
time-source = "system"
revocation = "off"
[enrolment]
url = "{served.url}"
ca-file = "est-ca.pem"
username = "{USER}"
password-file = "code"
[state]
directory = "state"
[control]
socket = "control.sock"
[[stream]]
id = "camera"
source = "testsrc"
width = 320
height = 180
fps = 15
[[meeting]]
name = "lobby"
room = "fleet"
create = true
publish = ["camera"]
subscribe = "all"
[meeting.sfu]
url = "{janus.url}"
"""


class Device:
    """Flashed, and never switched on."""

    def __init__(self, folder: Path, text: str, served: Platform, code: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.env = softhsm.configure(folder / "softhsm")
        (folder / "dongled.toml").write_text(text)
        (folder / "root.pem").write_bytes(pem(served.root))
        (folder / "est-ca.pem").write_bytes(served.ca_file.read_bytes())
        (folder / "code").touch(mode=0o600)
        (folder / "code").write_text(code)

    def prepare(self) -> subprocess.Popen[bytes]:
        """The one line."""
        line: list[str | Path] = [
            PROGRAM, "token", "prepare", "--module", softhsm.find_module(), "--pin-file", "pin",
            "--so-pin-file", "so-pin", "--drop-in", "conf.d/50-token.toml",
        ]  # fmt: skip
        return subprocess.Popen(line, env={**os.environ, **self.env}, cwd=self.folder)

    def boot(self) -> Running:
        settings = self.folder / "dongled.toml"
        process = start("run", "--config", settings, env=self.env, log=self.folder / "log")
        return Running(process, self.folder, "fleet")


def test_one_line_a_device_and_they_meet(janus: JanusServer, tmp_path: Path) -> None:
    code = secrets.token_urlsafe(12)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(platform(tmp_path, code, one_time=True))
        text = image(served, janus)
        devices = [Device(tmp_path / name, text, served, code) for name in ("ninth", "tenth")]
        assert [line.wait(120) for line in [device.prepare() for device in devices]] == [0, 0]
        running = [device.boot() for device in devices]
        for each in running:
            stack.callback(stop, each.process)
        for each in running:
            each.until(lambda meeting: opened(meeting) > 15)
        told = [each.status() for each in running]
        assert len({status.terminal for status in told}) == 2
        for status, other in zip(told, reversed(told), strict=True):
            assert [each.renewal for each in status.certificates] == ["planned", "planned"]
            assert [peer.terminal for peer in status.meetings[0].peers] == [other.terminal]
        # Each was given one certificate for each key, and the code is nowhere but where it was put.
        assert served.operations.count("simpleenroll") == 4
        written = b"".join(
            path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "code"
        )
        assert code.encode() not in written
