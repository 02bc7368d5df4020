"""A ``dongled`` process in a test: started as a user would, asked through its control socket."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dongled.agent.control.client import fetch_status
from dongled.agent.demo.commands import start, stop
from dongled.agent.demo.provision import settings_text
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus, InboundStatus, MeetingStatus, OutboundStatus

if TYPE_CHECKING:
    from integration.conftest import Company

# A machine under full load starts a process in seconds, not in tenths.
PATIENCE = 60.0
# What is refused in a meeting where all is well, if the machine is busy: an answer is late, asked for again,
# and comes twice; a message is there before the announcement that it goes by, a feed before its publisher.
BUSY = frozenset({"nonce-not-outstanding", "key-seq-old", "unknown-sender", "no-such-feed"})


@dataclass
class Running:
    """``folder`` holds its configuration, its log and its control socket."""

    process: subprocess.Popen[bytes]
    folder: Path
    room: str

    @classmethod
    def start(
        cls,
        company: Company,
        url: str,
        room: str,
        name: str,
        folder: Path,
        changes: Mapping[str, str],
        launch: Callable[..., subprocess.Popen[bytes]] = start,
    ) -> Running:
        """``changes`` are replacements in the text of the configuration, old to new."""
        folder.mkdir(parents=True)
        cast = company.cast(name)
        text = settings_text(
            cast, company.authority.root, company.camera.urn, company.viewer.urn, url, "required"
        )
        text = text.replace('room = "demo-required"', f'room = "{room}"')
        text = text.replace('pin-file = "pin"', f'pin-file = "{cast.folder / "pin"}"')
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        settings = folder / "dongled.toml"
        settings.write_text(text)
        verb: list[str | Path] = (
            ["run"] if name == "camera" else ["view", "--socket", folder / "control.sock"]
        )
        process = launch(*verb, "--config", settings, env=cast.env, log=folder / "log")
        return cls(process, folder, room)

    def stop(self) -> int:
        return stop(self.process)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def status(self) -> DaemonStatus:
        """Raises AgentError."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return asyncio.run(fetch_status(self.folder / "control.sock"))
            except AgentError as error:
                # A busy machine's daemon may take longer than a person waits.
                if error.reason != "no-answer" or time.monotonic() > deadline:
                    raise

    def until(
        self, what: Callable[[MeetingStatus], object], patience: float = PATIENCE, number: int = 0
    ) -> MeetingStatus:
        """A meeting's status, by its number, as soon as ``what`` is true of it."""
        deadline = time.monotonic() + patience
        last: MeetingStatus | str = "no answer"
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                last = self.status().meetings[number]
            except AgentError as error:
                last = str(error)
            else:
                if what(last):
                    return last
            # A status has to be asked for: there is nothing to wait on.
            time.sleep(0.05)
        raise AssertionError(f"not within {patience} s; last: {last}\n{self.log}")

    def children(self) -> list[int]:
        """Process ids of its children: the token's workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def memory(self) -> int:
        """Proportional set size of the process and its children, bytes (proc(5), smaps_rollup)."""
        return sum(_pss(pid) for pid in (self.process.pid, *self.children()))


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def sending(meeting: MeetingStatus) -> OutboundStatus:
    return meeting.sending[0]


def watching(meeting: MeetingStatus) -> InboundStatus | None:
    return meeting.receiving[0] if meeting.receiving else None


def opened(meeting: MeetingStatus) -> int:
    """Frames of the camera that this terminal has opened."""
    return meeting.receiving[0].frames_opened if meeting.receiving else 0


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def command_line_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def nothing_leaked(running: Running, *secrets: str) -> None:
    """In its log, its configuration, and what others can see of its processes."""
    pids = [running.process.pid, *running.children()]
    seen = running.log.encode() + b"".join(environment_of(pid) + command_line_of(pid) for pid in pids)
    seen += (running.folder / "dongled.toml").read_bytes()
    for secret in secrets:
        assert secret.encode() not in seen


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
