"""The lab: a device in a virtual machine, and Janus and a viewer on the host, for all of its tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dongled.agent.demo.provision import make_authority, make_terminal
from dongled.agent.errors import AgentError
from integration.conftest import Company
from integration.running import Running
from lab.device import Device, make_card
from lab.faults import Fault, Row, table
from lab.machine import BOOT_SECONDS, ROOT, Machine
from support.chrony import NtsServer
from support.janus import JanusServer
from support.netns import ADDRESS

ROOM = "lab"
# A device mends what befalls it within 30 s, and this one is slow.
RECOVERY_SECONDS = 90.0
# From its power on, or with it all that its boot may take.
START_SECONDS = BOOT_SECONDS + RECOVERY_SECONDS
# What was on its way, or in a buffer, as a fault came does not count.
ENOUGH_FRAMES = 10


@dataclass
class Lab:
    """``folder`` is the host's, as is all but the device."""

    folder: Path
    device: Device
    packages: list[Path]
    janus: JanusServer
    nts: NtsServer
    # Its process.
    telling_time: ExitStack
    company: Company
    viewer: Running
    rows: list[Row]

    def opened(self) -> tuple[str, int]:
        """The device's newest session at the viewer, and how many of its frames were opened."""
        try:
            received = self.viewer.status().meetings[0].receiving
        except (AgentError, IndexError):
            return "", 0
        return (received[-1].session, received[-1].frames_opened) if received else ("", 0)

    def until_seen(self, since: float | None = None, *, within: float = RECOVERY_SECONDS) -> float:
        """Wait until the viewer opens frames; returns seconds ``since`` then, or since now."""
        began = time.monotonic() if since is None else since
        before = self.opened()
        while time.monotonic() < began + within:
            now = self.opened()
            if now[1] >= ENOUGH_FRAMES + (before[1] if now[0] == before[0] else 0):
                return time.monotonic() - began
            # A status has to be asked for: there is nothing to wait on.
            time.sleep(0.2)
        raise AssertionError(f"no picture within {within:.0f} s\n{self.device.machine.journal()}")

    @contextmanager
    def fault(
        self, what: str, cursor: str | None = None, *, within: float = RECOVERY_SECONDS
    ) -> Iterator[Fault]:
        """Around what causes a fault and ends it; then the picture has to come back by itself."""
        found = Fault(self.device, self.device.cursor() if cursor is None else cursor)
        seconds = None
        try:
            yield found
            seconds = self.until_seen(found.began, within=within)
            found.over()
        finally:
            result = "FAILED" if seconds is None else "recovered"
            self.rows.append(Row(what, result, seconds, ", ".join(found.named)))


# How the packages of a release are told from another's.
_RELEASES = {"bookworm": "debian12", "trixie": "debian13"}


def packages(suite: str) -> list[Path]:
    """The newest of each package in dist/ for that release, with the camera's part."""
    names = sorted((ROOT / "dist").glob(f"*~{_RELEASES[suite]}_amd64.deb"))
    found = {path.name.split("_")[0]: path for path in names}
    assert set(found) == {"dongled", "dongled-camera"}, "run `make lab`, which builds them first"
    return list(found.values())


_ROWS: list[Row] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _ROWS:
        terminalreporter.section("the lab, where everything takes about ten times as long as on a device")
        for line in table(_ROWS):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    suite = request.config.getoption("--lab")
    authority = make_authority(folder)
    device = Device(Machine(folder / "machine", suite), make_card(folder / "office", authority))
    with ExitStack() as stack:
        stack.callback(device.power_off)
        device.power_on()
        viewer = make_terminal(folder, "viewer", "viewer", authority)
        company = Company(authority, replace(device.terminal.cast, name="camera"), viewer, folder)
        janus = stack.enter_context(JanusServer(folder / "janus"))
        (folder / "nts").mkdir()
        nts, telling_time = NtsServer(folder / "nts", ADDRESS), stack.enter_context(ExitStack())
        telling_time.enter_context(nts.running())
        watching = Running.start(company, janus.url, ROOM, "viewer", folder / "watching", {})
        stack.callback(watching.stop)
        device.machine.await_boot()
        yield Lab(folder, device, packages(suite), janus, nts, telling_time, company, watching, _ROWS)
