"""The session with a Janus that misbehaves: each way has its reason, is told once, and takes no longer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from websockets.asyncio.server import ServerConnection, serve

from agent.sfu.fake_janus import FakeJanus, FakePeer, Listener, joined, settings
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus import connection as connection_module
from dongled.agent.sfu.janus import transactions, wire
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings


def no_link() -> NoReturn:
    raise AssertionError("nobody gets as far as the bus here")


async def refused(room: JanusRoom) -> SfuError:
    with pytest.raises(SfuError) as caught:
        await room.join("alice")
    return caught.value


async def test_nobody_listens() -> None:
    room = JanusRoom(JanusSettings("ws://user:pa55@127.0.0.1:1", "lab"), Listener(), no_link)
    error = await refused(room)
    assert error.reason == "sfu-unreachable"
    assert "127.0.0.1:1" in str(error)
    assert "pa55" not in str(error)


async def test_another_kind_of_server() -> None:
    async def serve_nothing(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with serve(serve_nothing, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        room = JanusRoom(JanusSettings(f"ws://127.0.0.1:{port}", "lab"), Listener(), no_link)
        assert (await refused(room)).reason == "sfu-protocol"


async def test_a_server_that_never_finishes_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "OPEN_WITHIN", 0.1)
    hold = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hold.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    room = JanusRoom(JanusSettings(f"ws://127.0.0.1:{port}", "lab"), Listener(), no_link)
    assert (await refused(room)).reason == "sfu-unreachable"
    hold.set()
    server.close()


async def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        where = JanusSettings("wss://127.0.0.1:1", "lab", ca_file=tmp_path / name)
        assert (await refused(JanusRoom(where, Listener(), no_link))).reason == "sfu-ca-file"


@pytest.mark.parametrize("room", ["", "a b", 'a"b', "a\\b", "a/b", "ü", "x" * 45, "a\n", "-", "."])
def test_names_that_no_room_may_have(room: str) -> None:
    with pytest.raises(SfuError) as caught:
        JanusSettings("ws://sfu", room)
    assert caught.value.reason == "room-name"


def test_what_is_no_url() -> None:
    with pytest.raises(SfuError) as caught:
        JanusSettings("https://sfu", "lab")
    assert caught.value.reason == "sfu-url"


async def test_secrets_stay_out_of_every_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeJanus() as janus:
        # Else websockets' server, which this test runs too, logs what it hears.
        logging.getLogger("websockets.server").setLevel(logging.INFO)
        async with joined(janus, Listener(), room_pin="p1n-77"):
            pass
        assert janus.requests[0]["apisecret"] == "s3cr3t"
        assert all(request["token"] == "tok-3n" for request in janus.requests)
    for secret in ("s3cr3t", "tok-3n", "p1n-77"):
        assert secret not in caplog.text


STEPS = ["create-session", "attach", "exists", "setup", "ack", "join"]


@pytest.mark.parametrize("step", STEPS)
async def test_the_sfu_closes_at_each_step(step: str) -> None:
    async with FakeJanus() as janus:
        listener = Listener()

        def close(message: dict[str, Any]) -> None:
            assert janus.socket is not None
            janus.socket.transport.abort()

        janus.script[step] = close
        error = await refused(JanusRoom(settings(janus), listener, janus.link))
        assert error.reason == "sfu-closed"
        assert listener.told == [], "a join that fails has lost nothing"
        assert all(link.closed.is_set() for link in janus.links)


@pytest.mark.parametrize("step", STEPS)
async def test_the_sfu_is_silent_at_each_step(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "ANSWER_WITHIN", 0.1)
    async with FakeJanus() as janus:
        janus.script[step] = None
        error = await refused(JanusRoom(settings(janus), Listener(), janus.link))
        assert error.reason == "sfu-timeout"
        assert all(link.closed.is_set() for link in janus.links)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "answer",
    [
        {"janus": "success"},
        {"janus": "event", "plugindata": 5},
        {"janus": "error", "error": 5},
        {"janus": "event", "plugindata": {"plugin": "x", "data": {}}},
    ],
)
async def test_nonsense_at_each_step(step: str, answer: dict[str, Any]) -> None:
    async with FakeJanus() as janus:
        janus.script[step] = answer
        error = await refused(JanusRoom(settings(janus), Listener(), janus.link))
        assert error.reason == "sfu-malformed"


async def test_the_daemon_may_leave_while_it_joins() -> None:
    async with FakeJanus() as janus:
        janus.script["join"] = None
        room = JanusRoom(settings(janus), Listener(), janus.link)
        joining = asyncio.create_task(room.join("alice"))
        await janus.asked("join")
        await room.leave()
        with pytest.raises(SfuError) as caught:
            await joining
        assert caught.value.reason == "left"


async def test_a_cancelled_join_leaves() -> None:
    async with FakeJanus() as janus:
        janus.script["join"] = None
        joining = asyncio.create_task(JanusRoom(settings(janus), Listener(), janus.link).join("alice"))
        await janus.asked("join")
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert janus.links[0].closed.is_set()
        assert janus.requests[-1]["janus"] == "destroy"


async def abort(janus: FakeJanus) -> None:
    assert janus.socket is not None
    janus.socket.transport.abort()


async def close_bus(janus: FakeJanus) -> None:
    janus.links[0].gone()


LOSSES: list[tuple[Callable[[FakeJanus], Any], str]] = [
    (abort, "sfu-closed"),
    (lambda janus: janus.send({"janus": "timeout", "session_id": 1}), "session-timeout"),
    (lambda janus: janus.send('{"janus":"' + "x" * wire.MAX_JSON + '"}'), "sfu-oversized"),
    (lambda janus: janus.send({"janus": "hangup", "sender": janus.handle()}), "put-out"),
    (lambda janus: janus.send({"janus": "detached", "sender": janus.handle()}), "put-out"),
    (lambda janus: janus.tell(janus.handle(), videoroom="destroyed", room="lab"), "room-destroyed"),
    (lambda janus: janus.tell(janus.handle(), videoroom="event", leaving="ok", reason="kicked"), "put-out"),
    (close_bus, "bus-closed"),
    (lambda janus: janus.send({"janus": "hangup", "sender": min(janus.plugins)}), "bus-closed"),
]


@pytest.mark.parametrize(("cause", "reason"), LOSSES)
async def test_a_loss_is_told_once(cause: Callable[[FakeJanus], Any], reason: str) -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener) as room:
            await cause(janus)
            assert await listener.wait(1) == [("lost", reason)]
            janus.links[0].gone()
            for attempt in (room.broadcast(b"x"), room.unpublish("x")):
                with pytest.raises(SfuError):
                    await attempt
        assert listener.told == [("lost", reason)]


@pytest.mark.parametrize("cause", [close_bus, abort])
async def test_a_dead_bus_is_not_waited_for(cause: Callable[[FakeJanus], Any]) -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            await cause(janus)
            await listener.wait(1)
        assert janus.channel[-1]["textroom"] == "join"


async def test_a_loss_ends_what_waits_for_an_answer() -> None:
    async with FakeJanus() as janus, joined(janus, Listener()) as room:
        janus.script["publish"] = None
        publishing = asyncio.create_task(room.publish("door", FakePeer()))
        await janus.asked("publish")
        await abort(janus)
        with pytest.raises(SfuError) as caught:
            async with asyncio.timeout(20):
                await publishing
        assert caught.value.reason == "sfu-gone"


async def test_leaving_is_no_loss() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            pass
        janus.links[0].gone()
        assert listener.told == []
        assert janus.channel[-1]["textroom"] == "leave"
        assert janus.requests[-1]["janus"] == "destroy"
        assert janus.links[0].closed.is_set()


async def test_leaving_a_dead_sfu_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeJanus() as janus:
        async with joined(janus, Listener()):
            janus.script["destroy"] = None
            janus.bus_answers["leave"] = None
            started = time.monotonic()
        # A second for the goodbye, one for the end of the session, one for the socket; times three.
        assert time.monotonic() - started < 3 * 3.0


async def test_a_silent_sfu_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "KEEPALIVE_EVERY", 0.1)
    monkeypatch.setattr(transactions, "ANSWER_WITHIN", 0.2)
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            assert await listener.wait(1) == [("lost", "sfu-silent")]


async def test_keepalives_keep_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "KEEPALIVE_EVERY", 0.02)
    monkeypatch.setattr(transactions, "ANSWER_WITHIN", 0.05)
    async with FakeJanus() as janus:
        listener = Listener()
        janus.script["keepalive"] = {"janus": "ack"}
        async with joined(janus, listener):
            await janus.asked("keepalive", 10)
        assert listener.told == []


async def test_garbage_on_the_session_changes_nothing() -> None:
    async with FakeJanus() as janus:
        listener = Listener()
        async with joined(janus, listener):
            video = janus.handle()
            for garbage in (
                "",
                "null",
                b"\x00\x01",
                '{"janus":5}',
                '{"janus":"event","sender":"x"}',
                {"janus": "event", "sender": video, "plugindata": {"plugin": "x", "data": 5}},
                {"janus": "event", "sender": 999, "plugindata": {"plugin": "x", "data": {}}},
                {"janus": "hangup", "sender": 999},
                {"janus": "ack", "transaction": "777"},
                {"janus": "success", "transaction": "1", "data": {"id": 5}},
                {"janus": "unheard-of", "sender": video},
                {"janus": "error", "error": {"code": 1, "reason": "x"}},
            ):
                await janus.send(garbage)
            await janus.tell(video, publishers=[{"id": "f", "video_codec": "vp8"}])
            assert [what for what, *_ in await listener.wait(1)] == ["published"]
