"""The control socket: who may ask, what is answered, and what an old socket file means."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dongled.agent.control import server as server_module
from dongled.agent.control.client import expel, fetch_status
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer, may_call
from dongled.agent.errors import AgentError
from support.controlled import ControlledDouble

NOBODY = 65534


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


async def test_the_interface_describes_itself(control: Path) -> None:
    """By hand, as varlinkctl would ask (https://varlink.org/Service)."""
    reader, writer = await asyncio.open_unix_connection(control)
    call = {
        "method": "org.varlink.service.GetInterfaceDescription",
        "parameters": {"interface": "io.dongled.Control"},
    }
    writer.write(json.dumps(call).encode() + b"\0")
    answer = json.loads((await reader.readuntil(b"\0"))[:-1])
    writer.close()
    assert "method Status() -> (status: DaemonStatus)" in answer["parameters"]["description"]


async def test_who_may_not_call_is_told_so(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "may_call", lambda uid, gid, group: False)
    with pytest.raises(AgentError) as refused:
        await fetch_status(control)
    assert refused.value.reason == "not-permitted"


def test_root_and_the_own_user_may_and_others_not() -> None:
    assert may_call(0, 0, None)
    assert may_call(os.geteuid(), NOBODY, None)
    assert not may_call(NOBODY, NOBODY, None)
    assert not may_call(NOBODY, NOBODY, "no-such-group")


def test_a_group_may_by_primary_and_by_supplementary_membership(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = grp.struct_group(("operators", "x", 4711, ["olga"]))
    olga = pwd.struct_passwd(("olga", "x", 1234, 100, "", "/", "/bin/sh"))
    monkeypatch.setattr(grp, "getgrnam", {"operators": operators}.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", {1234: olga}.__getitem__)
    assert may_call(4321, 4711, "operators")
    assert may_call(1234, 100, "operators")
    assert not may_call(4321, 100, "operators")


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


async def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(AgentError) as refused:
        await ControlServer(path, ControlInterface(ControlledDouble())).start()
    assert refused.value.reason == "control-socket"
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "garbage", [b"\0", b"{}\0", b"[1]\0", b'{"method": 7}\0', b"\xff\xfe\0", b"x" * 100_000]
)
async def test_garbage_hurts_nobody_else(control: Path, garbage: bytes) -> None:
    _, writer = await asyncio.open_unix_connection(control)
    writer.write(garbage)
    await writer.drain()
    writer.close()
    assert (await fetch_status(control)).name == "camera"


async def test_no_daemon_and_no_answer_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as absent:
        await fetch_status(tmp_path / "none.sock")
    assert absent.value.reason == "not-running"
