"""The lab: a device in a virtual machine, and Janus and a viewer on the host, for all of its tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dongled.agent.demo.provision import make_authority, make_terminal
from dongled.agent.errors import AgentError
from integration.conftest import Company
from integration.running import Running
from lab.device import CAMERA, COMMAND_SECONDS, Device, powered, prepare_card
from lab.machine import ROOT, Machine
from support.janus import JanusServer

ROOM = "lab"
# What a device mends by itself within 30 s takes longer where everything takes ten times as long.
RECOVERY_SECONDS = 180.0
NOTICE_SECONDS = 120.0


@dataclass
class Lab:
    """``rows`` are what the table shows: a fault, seconds to recover, and what named it."""

    device: Device
    janus: JanusServer
    viewer: Running
    root: Path
    viewer_urn: str
    rows: list[tuple[str, float, str]]

    def opened(self) -> tuple[str, int]:
        """The camera's newest session at the viewer, and how many of its frames were opened."""
        try:
            received = self.viewer.status().meetings[0].receiving
        except (AgentError, IndexError):
            return "", 0
        return (received[-1].session, received[-1].frames_opened) if received else ("", 0)

    def until_seen(self, seconds: float = RECOVERY_SECONDS) -> float:
        """Wait until the viewer opens frames; returns how long that took."""
        began = time.monotonic()
        before = self.opened()
        while time.monotonic() < began + seconds:
            time.sleep(0.5)
            now = self.opened()
            # Ten frames: what was on its way, or in a buffer, as the fault came does not count.
            if now[1] >= (before[1] + 10 if now[0] == before[0] else 10):
                return time.monotonic() - began
        raise AssertionError(
            f"no picture within {seconds:.0f} s\n{self.device.machine.journal()}\n"
            f"-- the viewer\n{self.viewer.log}"
        )

    @staticmethod
    def now() -> int:
        """The host's time, Unix."""
        return int(time.time())

    def says(self, command: str, *names: str) -> str:
        """Wait until a command's output has one of these names; returns it."""
        output = self.device.machine.until(
            f"{command} || true", NOTICE_SECONDS, lambda text: any(name in text for name in names)
        )
        return next(name for name in names if name in output)

    def named(self, *names: str) -> str:
        """By which of these ``dongled status`` and the journal name the cause: both have to."""
        status = self.says("dongled status", *names)
        self.says("journalctl --no-pager -b -u dongled -n 60", *names)
        return status

    @contextmanager
    def fault(self, what: str) -> Iterator[Callable[[str], None]]:
        """Around what causes a fault and ends it: then the picture has to come back by itself."""
        named: list[str] = []
        yield named.append
        self.rows.append((what, self.until_seen(), ", ".join(named)))


_ROWS: list[tuple[str, float, str]] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What became of the device's faults."""
    if not _ROWS:
        return
    terminalreporter.section("the lab, where everything takes about ten times as long as on a device")
    wide = max(len(what) for what, _, _ in _ROWS)
    terminalreporter.write_line(f"{'fault':<{wide}}  recovered in  named by")
    for what, seconds, names in _ROWS:
        terminalreporter.write_line(f"{what:<{wide}}  {seconds:10.1f} s  {names}")


def packages() -> list[Path]:
    """The newest of each package in dist/, with the camera's part."""
    found = {path.name.split("_")[0]: path for path in sorted((ROOT / "dist").glob("*.deb"))}
    assert set(found) == {"dongled", "dongled-camera"}, "run `make lab`, which builds them first"
    return list(found.values())


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("lab")
    authority = make_authority(directory)
    viewer = make_terminal(directory, "viewer", "viewer", authority)
    device = Device(Machine(directory / "machine"), prepare_card(directory, authority))
    company = Company(authority, replace(device.terminal.cast, name="camera"), viewer, directory)
    with JanusServer(directory / "janus") as janus, powered(device):
        watching = Running.start(company, janus.url, ROOM, "viewer", directory / "watching", {})
        try:
            made = Lab(device, janus, watching, authority.root, viewer.urn, _ROWS)
            yield made
        finally:
            watching.stop()


__all__ = ["CAMERA", "COMMAND_SECONDS", "ROOM", "Lab", "packages"]
