"""One stay in a room: whatever goes wrong in it, no key stays in use and nothing stays open."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dongled.agent.errors import AgentError
from dongled.agent.meetings import encrypted as encrypted_module
from dongled.agent.meetings.encrypted import EncryptedSession
from dongled.agent.meetings.feeds import encrypted_display
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.meeting import Meeting
from dongled.agent.meetings.meetings import Meetings
from dongled.agent.meetings.streams import OutboundSettings, Sinks, Streams
from dongled.agent.policy.api import Policy
from dongled.agent.protocol.api import Broadcast, Effect, OpenWith, Peer, PeerJoined, SealWith, Stream
from dongled.agent.sfu.api import Feed
from dongled.agent.sfu.janus.room import JanusSettings
from dongled.agent.terminal import Terminal
from dongled.config.api import MeetingSettings
from dongled.media.api import Picture
from dongled.media.errors import MediaError
from dongled.media.webrtc import IceSettings
from dongled.tokens.api import TokenKeys
from dongled.tokens.errors import TokenError

STREAM = Stream("camera", "vp8")
PEER = Peer(b"p" * 16, "urn:uuid:y", "CN=y", b"", frozenset({"publisher"}), "hardware", (STREAM,))
FEED = Feed("1", encrypted_display(PEER.session, "camera"), "vp8", True)


def sealing() -> SealWith:
    # No key seals twice.
    return SealWith("camera", 1, os.urandom(64), bytes(32))


def opening(base_key: bytes) -> OpenWith:
    verify_key = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    return OpenWith(PEER.session, STREAM, 1, base_key, verify_key)


class Source:
    """A camera that shows nothing, and knows whether it was given back."""

    width, height, fps = 128, 96, 1

    def __init__(self) -> None:
        self.closed = threading.Event()

    def start(self) -> None: ...

    def read(self, timeout: float) -> Picture | None:
        self.closed.wait(timeout / 10)
        return None

    def close(self) -> None:
        self.closed.set()


class Room:
    """Takes no message, so that a goodbye lasts as long as it may."""

    def __init__(self, *_: object) -> None:
        self.left = False
        self.published = asyncio.Event()

    async def broadcast(self, _: bytes) -> None:
        await asyncio.Event().wait()

    async def publish(self, *_: object) -> str:
        self.published.set()
        return "7"

    async def subscribe(self, *_: object) -> None: ...

    async def join(self, _: str) -> None: ...

    async def end_streams(self) -> None: ...

    async def leave(self) -> None:
        self.left = True


class Keys:
    data = SimpleNamespace(point=b"\x04" + bytes(64))

    async def sign(self, *_: object) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


class Bench:
    """A session that has joined, whose machine wants what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stay: Callable[[], Awaitable[None]] | None) -> None:
        monkeypatch.setattr(encrypted_module, "JanusRoom", Room)
        self.wanted: list[Effect] = []
        self.source = Source()
        keys = cast(TokenKeys, Keys())
        self.terminal = Terminal("urn:uuid:x", keys, [b"leaf"], [], cast(Policy, None))
        self.sinks: Sinks | MediaError = Sinks()
        self.journal = Journal("demo")
        self.streams = Streams(IceSettings(), self._sinks, lambda error: None)
        self.session = EncryptedSession(
            "demo", JanusSettings("ws://127.0.0.1:1", "demo"), IceSettings(), self.terminal,
            [OutboundSettings("camera", "vp8", 100_000, lambda: self.source)], self.streams,
            lambda peer, stream: True, self.journal, stay,
        )  # fmt: skip
        monkeypatch.setattr(self.session.member, "take_effects", self._take)
        self.leaving = asyncio.Event()
        monkeypatch.setattr(self.session.member, "leave", lambda now: self.leaving.set())
        self.room = cast(Room, self.session.room)

    def _sinks(self, terminal: str, stream: str) -> Sinks:
        if isinstance(self.sinks, MediaError):
            raise self.sinks
        return self.sinks

    def _take(self) -> list[Effect]:
        wanted, self.wanted = self.wanted, []
        return wanted

    async def lose_token(self) -> None:
        """Until it is saying goodbye."""
        self.terminal.lose(TokenError("token-absent", "no"))
        await asyncio.wait_for(self.leaving.wait(), 30)

    async def run(self) -> asyncio.Task[str]:
        joined = asyncio.Event()
        task = asyncio.create_task(self.session.run(joined.set))
        async with asyncio.timeout(30):
            await joined.wait()
            await self.room.published.wait()
        return task

    def want(self, *effects: Effect) -> None:
        """As after something that somebody said."""
        self.wanted += effects
        self.session.bus_member_left("nobody")

    @property
    def generation(self) -> int | None:
        return self.streams.outgoing["camera"].generation


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    bench = Bench(monkeypatch, stay=asyncio.Event().wait)  # type: ignore[arg-type] # what it returns is not used
    yield bench
    await bench.streams.close()


async def over(task: asyncio.Task[str]) -> str:
    async with asyncio.timeout(30):
        return await task


async def test_a_defect_leaves_no_key_in_use(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    task = await bench.run()
    bench.want(sealing())
    assert bench.generation == 1
    # Somebody whom nobody knows: what was wanted after that is not done, such as to stop.
    bench.want(OpenWith(b"?" * 16, STREAM, 1, bytes(64), bytes(32)))
    assert bench.generation is None
    bench.wanted = []
    await over(task)
    assert bench.source.closed.is_set()
    assert "KeyError" in caplog.text


async def test_a_defect_in_reading_leaves_no_key_in_use(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(*_: object) -> None:
        raise IndexError("beyond the end")

    task = await bench.run()
    bench.want(sealing())
    monkeypatch.setattr(bench.session.member, "receive", receive)
    bench.session.bus_message("somebody", b"\0")
    assert bench.generation is None
    assert await over(task) == "beyond the end"


async def test_what_a_defect_left_undone_is_not_done_at_the_goodbye(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(*_: object) -> None:
        bench.wanted.append(sealing())
        raise IndexError("beyond the end")

    task = await bench.run()
    monkeypatch.setattr(bench.session.member, "receive", receive)
    bench.session.bus_message("somebody", b"\0")
    await over(task)
    assert bench.leaving.is_set()
    assert bench.generation is None


async def test_a_key_that_is_refused_costs_its_sender_alone(bench: Bench) -> None:
    task = await bench.run()
    bench.want(sealing(), PeerJoined(PEER), opening(bytes(64)), opening(bytes([1]) * 64))
    assert bench.journal.refused == {"kid-conflict": 1}
    assert (bench.generation, task.done()) == (1, False)
    bench.session.end("the test says so")
    await over(task)


async def test_a_sink_that_cannot_be_made_costs_its_stream_alone(bench: Bench) -> None:
    bench.sinks = MediaError("output-failed", "no")
    task = await bench.run()
    bench.want(sealing(), PeerJoined(PEER))
    bench.session.feed_published(FEED)
    assert bench.journal.refused == {"output-failed": 1}
    assert (bench.generation, task.done()) == (1, False)
    bench.session.end("the test says so")
    await over(task)


async def test_whoever_is_stopped_while_parting_gives_the_camera_back(bench: Bench) -> None:
    task = await bench.run()
    # Something to be sent, which the SFU does not take: parting lasts a second.
    bench.want(Broadcast(b"message"))
    await bench.lose_token()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await over(task)
    assert (bench.source.closed.is_set(), bench.room.left) == (True, True)


async def test_what_the_sfu_says_after_parting_opens_nothing(bench: Bench) -> None:
    task = await bench.run()
    bench.want(PeerJoined(PEER))
    await bench.lose_token()
    bench.session.feed_published(FEED)
    bench.session.feed_gone(FEED.id)
    assert not bench.streams.incoming
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await over(task)


async def test_nobody_is_expelled_from_a_session_that_is_over(bench: Bench) -> None:
    settings = MeetingSettings.model_validate(
        {"name": "demo", "room": "demo", "sfu": {"url": "ws://127.0.0.1:1"}}
    )
    task = await bench.run()
    bench.want(PeerJoined(PEER))
    meeting = Meeting(settings, lambda: bench.session, Journal("demo"))
    meeting.session = cast(Any, bench.session)
    bench.session.end("the test says so")
    await over(task)
    with pytest.raises(AgentError) as raised:
        Meetings([meeting]).expel("urn:uuid:y", "")
    assert raised.value.reason == "no-such-peer"


@pytest.mark.property("P10")
async def test_a_feed_of_a_codec_without_a_rule_is_passed_over(bench: Bench) -> None:
    streams = (Stream("odd", "vp9"), STREAM)
    bench.session._peers[PEER.session] = replace(PEER, streams=streams)
    bench.session.feed_published(Feed("2", encrypted_display(PEER.session, "odd"), "vp9", True))
    bench.session.feed_published(FEED)
    assert {stream for _, stream in bench.streams.incoming} == {"camera"}
    await bench.session._tasks.cancel()
