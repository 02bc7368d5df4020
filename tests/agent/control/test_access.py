"""Who may call what, by the kernel's word, and that no client can use the daemon up."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dongled.agent.control import access, connection, server
from dongled.agent.control.access import Access, Caller, Rules, caller_of, needed
from dongled.agent.control.client import fetch_status
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus
from support.controlled import ControlledDouble

SOMEBODY = 64_999
OPERATORS, READERS = 64_001, 64_002
RULES = Rules(OPERATORS, READERS)
DENIED = "org.varlink.service.PermissionDenied"

# Calls each method that it is given as another user, and prints the error of each, or null.
STRANGER = """
import json, os, socket, sys
path, groups, uid = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
os.setgroups(groups[1:]); os.setgid(groups[0]); os.setuid(uid)
for method, parameters in json.loads(sys.argv[4]):
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(path)
        daemon.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\\0")
        answer = b""
        while not answer.endswith(b"\\0"):
            answer += daemon.recv(65536) or sys.exit("hung up")
        print(json.dumps(json.loads(answer[:-1]).get("error")))
"""
STATUS: tuple[str, dict[str, str]] = ("io.dongled.Control.Status", {})
EXPEL = ("io.dongled.Control.Expel", {"peer": "viewer", "reason": ""})
DESCRIBE = ("org.varlink.service.GetInterfaceDescription", {"interface": "io.dongled.Control"})


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may look into, as /run/dongled is."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
async def control(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    monkeypatch.setattr(server, "_number", {"operators": OPERATORS, "readers": READERS}.__getitem__)
    made = ControlServer(
        directory / "control.sock", ControlInterface(ControlledDouble()), "readers", "operators"
    )
    await made.start()
    yield directory / "control.sock"
    await made.close()


def several_users() -> bool:
    """user_namespaces(7): whoever is not root runs the suite in one that has a single user."""
    return Path("/proc/self/uid_map").read_text().split()[2] != "1"


async def call_as(path: Path, groups: list[int], *calls: object) -> list[str | None]:
    program = STRANGER if several_users() else STRANGER.replace("os.set", "0 and os.set")
    client = [sys.executable, "-c", program, str(path), json.dumps(groups), str(SOMEBODY), json.dumps(calls)]
    output = await asyncio.to_thread(subprocess.check_output, client, timeout=60)
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("groups", "may_read", "may_act"),
    [
        ([OPERATORS], True, True),
        ([SOMEBODY, OPERATORS], True, True),
        ([SOMEBODY, READERS], True, False),
        ([READERS, OPERATORS], True, True),
        ([SOMEBODY], False, False),
    ],
)
async def test_another_user_may_what_its_groups_may(
    control: Path, groups: list[int], may_read: bool, may_act: bool
) -> None:
    """Really another user: who runs the suite as nobody in particular is the daemon's own user throughout."""
    if not several_users():
        may_read = may_act = True
    assert await call_as(control, groups, STATUS, DESCRIBE, EXPEL) == [
        None if may_read else DENIED,
        None if may_read else DENIED,
        None if may_act else DENIED,
    ]


def test_root_and_the_own_user_may_act_and_by_default_nobody_else() -> None:
    assert Rules().access(Caller(0, frozenset([0]))) is Access.ACT
    assert Rules().access(Caller(os.geteuid(), frozenset())) is Access.ACT
    assert Rules().access(Caller(SOMEBODY, frozenset([0, OPERATORS]))) is Access.NONE
    assert RULES.access(Caller(SOMEBODY, frozenset([READERS]))) is Access.READ


def test_the_kernel_says_who_it_is_with_every_group() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert caller_of(one) == Caller(os.geteuid(), frozenset([os.getegid(), *os.getgroups()]))


def test_a_method_that_nobody_declared_acts() -> None:
    assert needed("io.dongled.Control.Invented") is Access.ACT
    assert needed("org.varlink.service.Invented") is Access.ACT
    methods = {f"{ControlInterface.name}.{name}" for name in vars(ControlInterface) if name[0].isupper()}
    assert {name for name in access.READS if name.startswith(ControlInterface.name)} <= methods


async def test_who_is_refused_is_told_so(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "caller_of", lambda sock: Caller(SOMEBODY, frozenset()))
    with pytest.raises(AgentError) as refused:
        await fetch_status(control)
    assert refused.value.reason == "not-permitted"


async def test_who_is_refused_takes_no_places(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(server, "caller_of", lambda sock: Caller(SOMEBODY, frozenset()))
        strangers = [await asyncio.open_unix_connection(control) for _ in range(3 * server.MAX_CLIENTS)]
    assert (await fetch_status(control)).name == "camera"
    for _, writer in strangers:
        writer.close()


async def test_one_user_leaves_places_for_others(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(server, "caller_of", lambda sock: Caller(SOMEBODY, frozenset([OPERATORS])))
        clients = [await asyncio.open_unix_connection(control) for _ in range(2 * server.MAX_CLIENTS)]
        hung_up = [reader.at_eof() or not await pending(reader) for reader, _ in clients]
    assert hung_up.count(False) == server.MAX_CLIENTS_OF_ONE
    assert (await fetch_status(control)).name == "camera"
    for _, writer in clients:
        writer.close()


async def pending(reader: asyncio.StreamReader) -> bool:
    """Whether the other side holds the line."""
    try:
        async with asyncio.timeout(0.05):
            return bool(await reader.read(1))
    except TimeoutError:
        return True


async def test_a_reader_that_does_not_read_is_hung_up_on_and_costs_no_memory(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of calls in one go: answers wait for being read, and then not for long."""
    monkeypatch.setattr(connection, "SEND_SECONDS", 1.5)
    asked = 0
    status = ControlledDouble.status

    def counted(double: ControlledDouble) -> DaemonStatus:
        nonlocal asked
        asked += 1
        return status(double)

    monkeypatch.setattr(ControlledDouble, "status", counted)
    with socket.socket(socket.AF_UNIX) as greedy:
        greedy.setblocking(False)
        await asyncio.get_running_loop().sock_connect(greedy, str(control))
        call = json.dumps({"method": STATUS[0]}).encode() + b"\0"
        with pytest.raises(OSError):  # noqa: PT012 - whichever of the calls notices
            async with asyncio.timeout(20):
                while True:
                    await asyncio.get_running_loop().sock_sendall(greedy, 1000 * call)
        # What the kernel's buffers take, and one answer more.
        assert asked < 1000
    assert (await fetch_status(control)).name == "camera"


async def test_what_runs_for_a_client_ends_with_it(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing is sent to it, which is when nothing would say so."""
    monkeypatch.setattr(connection, "LOOK_EVERY", 0.05)
    ended = asyncio.Event()
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        try:
            await sleep(seconds)
        finally:
            if seconds == 3600:
                ended.set()

    monkeypatch.setattr(asyncio, "sleep", slept)
    reader, writer = await asyncio.open_unix_connection(control, limit=1 << 20)
    call = {"method": "io.dongled.Control.Watch", "parameters": {"every": 3600}, "more": True}
    writer.write(json.dumps(call).encode() + b"\0")
    assert json.loads((await reader.readuntil(b"\0"))[:-1])["continues"]
    assert not ended.is_set()
    writer.close()
    async with asyncio.timeout(20):
        await ended.wait()


async def test_who_has_asked_and_closed_its_half_is_answered(control: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(control, limit=1 << 20)
    writer.write(json.dumps({"method": STATUS[0]}).encode() + b"\0")
    writer.write_eof()
    assert json.loads((await reader.readuntil(b"\0"))[:-1])["parameters"]["status"]["name"] == "camera"
    writer.close()


async def test_an_unknown_group_is_told_by_name(directory: Path) -> None:
    made = ControlServer(
        directory / "control.sock", ControlInterface(ControlledDouble()), operators="no-such-group"
    )
    with pytest.raises(AgentError) as refused:
        await made.start()
    assert (refused.value.reason, "no-such-group" in str(refused.value)) == ("control-group", True)
