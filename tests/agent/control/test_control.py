"""The control socket: who may ask, what is answered, and what an old socket file means."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from dongled.agent.control import client
from dongled.agent.control.client import expel, fetch_status, talk
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from dongled.agent.errors import AgentError
from support.controlled import ControlledDouble


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "control.sock"
    server = ControlServer(path, ControlInterface(ControlledDouble()))
    await server.start()
    yield path
    await server.close()
    assert not path.exists()


async def test_the_status_arrives_as_it_was_told(control: Path) -> None:
    assert await fetch_status(control) == ControlledDouble().status()


async def test_expel_answers_and_its_errors_arrive_whole(control: Path) -> None:
    assert await expel(control, "viewer", "noise") == ["demo: noise"]
    with pytest.raises(AgentError) as refused:
        await expel(control, "nobody", "")
    assert (refused.value.reason, str(refused.value)) == ("no-such-peer", "Nobody here is called 'nobody'.")
    assert refused.value.hint == "See 'dongled status'."


async def test_only_the_owner_may_open_it(control: Path) -> None:
    assert stat.S_IMODE(os.stat(control).st_mode) == 0o600


async def test_a_client_that_was_not_written_here_reads_the_interface_and_calls_it(control: Path) -> None:
    """By the reference implementation, https://github.com/varlink/python."""
    program = """
import json, sys, varlink
with varlink.Client.new_with_address("unix:" + sys.argv[1]) as client:
    print(json.dumps(sorted(client.get_interfaces())))
    with client.open("io.dongled.Control") as daemon:
        print(json.dumps([daemon.Status()["status"]["name"], daemon.Expel("viewer", "noise")["meetings"]]))
        try:
            daemon.Expel("nobody", "")
        except varlink.VarlinkError as error:
            print(json.dumps([error.error(), error.parameters()["reason"]]))
        watching = daemon.Watch(0.2, _more=True)
        print(json.dumps([next(watching)["status"]["name"] for _ in range(3)]))
"""
    client = [sys.executable, "-c", program, str(control)]
    output = await asyncio.to_thread(subprocess.check_output, client, timeout=60)
    assert [json.loads(line) for line in output.splitlines()] == [
        ["io.dongled.Control", "org.varlink.service"],
        ["camera", ["demo: noise"]],
        ["io.dongled.Control.Failed", "no-such-peer"],
        ["camera"] * 3,
    ]


async def test_the_status_is_watched_until_one_hangs_up(control: Path) -> None:
    async with talk(control, 60) as daemon, aclosing(daemon.Watch(every=0.2)) as watching:
        assert [(await anext(watching))["status"].name for _ in range(3)] == ["camera"] * 3
    with pytest.raises(AgentError) as refused:
        async with talk(control, 60) as daemon:
            await anext(daemon.Watch(every=0.01))
    assert refused.value.reason == "interval"


async def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    server = ControlServer(path, ControlInterface(ControlledDouble()))
    await server.start()
    assert (await fetch_status(path)).name == "camera"
    await server.close()


async def test_a_living_daemons_socket_is_left_alone(control: Path) -> None:
    with pytest.raises(AgentError) as refused:
        await ControlServer(control, ControlInterface(ControlledDouble())).start()
    assert refused.value.reason == "control-socket"
    assert (await fetch_status(control)).name == "camera"


async def test_a_daemon_that_accepts_nobody_lives_too(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with accepting_nobody(path):
        with pytest.raises(AgentError) as refused:
            await ControlServer(path, ControlInterface(ControlledDouble())).start()
        assert refused.value.reason == "control-socket"
        assert path.is_socket()


async def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(AgentError) as refused:
        await ControlServer(path, ControlInterface(ControlledDouble())).start()
    assert refused.value.reason == "control-socket"
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "garbage",
    [b"\0", b"{}\0", b"[1]\0", b'{"method": 7}\0', b"\xff\xfe\0", b"x" * 100_000, b"[" * 50_000 + b"\0"],
)
async def test_garbage_hurts_nobody_else(control: Path, garbage: bytes) -> None:
    _, writer = await asyncio.open_unix_connection(control)
    writer.write(garbage)
    await writer.drain()
    writer.close()
    assert (await fetch_status(control)).name == "camera"


@pytest.mark.parametrize("change", ["less", "more", "none"])
async def test_a_daemon_of_another_version_is_told_from_one_that_is_silent(
    tmp_path: Path, change: str
) -> None:
    status = asdict(ControlledDouble().status())
    if change == "less":
        del status["audit_failed"]
    else:
        status["news"] = []
    answer = b"{" if change == "none" else json.dumps({"parameters": {"status": status}}).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\0")
        writer.write(answer + b"\0")

    server = await asyncio.start_unix_server(serve, tmp_path / "other.sock")
    with pytest.raises(AgentError) as refused:
        await fetch_status(tmp_path / "other.sock")
    assert refused.value.reason == "other-version"
    server.close()


async def test_no_daemon_and_no_answer_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as absent:
        await fetch_status(tmp_path / "none.sock")
    assert absent.value.reason == "not-running"
    with accepting_nobody(tmp_path / "full.sock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "TIMEOUT", 0.1)
        with pytest.raises(AgentError) as full:
            await expel(tmp_path / "full.sock", "viewer", "")
    assert full.value.reason == "no-answer"


async def test_a_place_in_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with accepting_nobody(path) as listener:
        asking = asyncio.create_task(fetch_status(path))
        await asyncio.sleep(0)
        assert not asking.done()
        listener.close()
        path.unlink()
        server = ControlServer(path, ControlInterface(ControlledDouble()))
        await server.start()
        assert (await asking).name == "camera"
    await server.close()


@contextmanager
def accepting_nobody(path: Path) -> Iterator[socket.socket]:
    """Its queue is full (listen(2))."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(
                    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                )
                waiting.connect(str(path))
        yield listener
