"""`dongled status` as it is typed: once, again and again, into a terminal and into a pipe."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest

from dongled.agent.control.client import fetch_status
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from dongled.agent.demo.commands import PROGRAM
from dongled.agent.status import DaemonStatus
from support.controlled import ControlledDouble
from support.statuses import well

PATIENCE = 60.0


class Changing(ControlledDouble):
    """Says another uptime each time that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def status(self) -> DaemonStatus:
        self.asked += 1
        status = well()
        status.uptime, status.meetings[0].sending[0].fps = float(self.asked), float(self.asked)
        return status


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "control.sock"
    server = ControlServer(path, ControlInterface(Changing()))
    await server.start()
    yield path
    await server.close()


def command(*arguments: str | Path) -> list[str]:
    return [str(PROGRAM), "status", *map(str, arguments)]


async def test_every_field_crosses_the_socket(control: Path) -> None:
    came = await fetch_status(control)
    came.uptime, came.meetings[0].sending[0].fps = well().uptime, well().meetings[0].sending[0].fps
    assert came == well()


async def test_once_as_a_page_and_as_json(control: Path) -> None:
    for arguments in ((), ("--json",)):
        process = await asyncio.create_subprocess_exec(
            *command("--socket", control, *arguments), stdout=asyncio.subprocess.PIPE
        )
        text = (await asyncio.wait_for(process.communicate(), PATIENCE))[0].decode()
        assert process.returncode == 0
        if arguments:
            assert json.loads(text).keys() == asdict(well()).keys()
        else:
            assert text.startswith("terminal    door-camera")
            assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [("--json",), ()])
async def test_into_a_pipe_watching_writes_a_line_each_time(
    control: Path, arguments: tuple[str, ...]
) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("--watch", "--every", "0.2", "--socket", control, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        shown = [(await process.stdout.readline()).decode() for _ in range(3)]
        if arguments:
            assert [json.loads(line)["uptime"] for line in shown] == [1.0, 2.0, 3.0]
        else:
            assert [f"send camera {n}.0 fps" in shown[n - 1] for n in (1, 2, 3)] == [True] * 3
        process.send_signal(signal.SIGINT)
        await process.wait()
        assert b"Traceback" not in await process.stderr.read()


async def test_on_a_terminal_watching_redraws_one_page(control: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 12, 80, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
    process = await asyncio.create_subprocess_exec(
        *command("--watch", "--every", "0.2", "--socket", control), stdout=theirs, env=clean
    )
    os.close(theirs)
    try:
        seen = b""
        async with asyncio.timeout(PATIENCE):
            while seen.count(b"\x1b[H") < 3:
                seen += await asyncio.to_thread(os.read, ours, 4096)
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
        os.close(ours)
    pages = seen.split(b"\x1b[H")[1:-1]
    assert [b"up 0:01" in pages[0], b"up 0:02" in pages[1]] == [True, True]
    for page in pages:
        assert page.endswith(b"\x1b[J")
        # Nothing scrolls: as many lines as there are, less the one with the cursor.
        assert page.count(b"\n") == 11


async def test_it_waits_for_a_daemon_that_is_restarted_and_not_for_one_that_never_was(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    process = await asyncio.create_subprocess_exec(
        *command("--watch", "--socket", path), stderr=asyncio.subprocess.PIPE
    )
    assert b"[not-running]" in (await asyncio.wait_for(process.communicate(), PATIENCE))[1]
    assert process.returncode == 1

    first = ControlServer(path, ControlInterface(Changing()))
    await first.start()
    process = await asyncio.create_subprocess_exec(
        *command("--watch", "--every", "0.2", "--socket", path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        await process.stdout.readline()
        await first.close()
        # It may have been in the middle of a question: then it has something else to say first.
        while b"[not-running]" not in await process.stderr.readline():
            assert not process.stderr.at_eof()
        second = ControlServer(path, ControlInterface(Changing()))
        await second.start()
        while b"send camera 1.0 fps" not in await process.stdout.readline():
            assert process.returncode is None
        process.terminate()
        await process.wait()
    await second.close()


async def test_a_reader_that_has_seen_enough_is_no_error(control: Path) -> None:
    line = " ".join(command("--watch", "--every", "0.2", "--socket", control)) + " | head -n 1"
    process = await asyncio.create_subprocess_shell(
        f"set -o pipefail; {line}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        executable="/bin/bash",
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert b"token READY" in out
    assert err == b""
