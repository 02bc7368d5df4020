"""What the media of a session leave behind when the SFU refuses, breaks off, or changes its mind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, cast

import pytest

from dongled.agent.meetings import streams as streams_module
from dongled.agent.meetings.streams import OutboundSettings, Sinks, Streams
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom
from dongled.capture.testsrc import TestPicture
from dongled.media.api import StreamContext
from dongled.media.errors import MediaError
from dongled.media.webrtc import IceSettings

FEED = Feed("7", "", "vp8", True)
KEY = (bytes(16), "camera")
CONTEXT = StreamContext("meeting", *KEY, "vp8")


class Peer:
    """A peer connection, of which only the end counts."""

    made: list[Peer]

    def __init__(self, *_: object) -> None:
        self.closed = False
        self.made.append(self)

    def on_state(self, _: object) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class Room:
    """Answers as it is told, once ``go`` is set, and knows what is still subscribed to."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.answer = answer
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.subscribed: list[str] = []

    async def _answer(self) -> None:
        self.asked.set()
        await self.go.wait()
        if self.answer is not None:
            raise self.answer

    async def publish(self, *_: object) -> str:
        await self._answer()
        return "8"

    async def subscribe(self, feed: Feed, *_: object) -> None:
        await self._answer()
        self.subscribed.append(feed.id)

    async def unsubscribe(self, feed_id: str) -> None:
        self.asked.set()
        await self.go.wait()
        self.subscribed.remove(feed_id)


@pytest.fixture
async def streams(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streams]:
    Peer.made = []
    for name in ("Subscription", "Publication"):
        monkeypatch.setattr(streams_module, name, Peer)
    streams = Streams(IceSettings(), lambda terminal, stream: Sinks(), lambda error: None)
    streams.open(CONTEXT, "terminal", encrypted=True)
    yield streams
    await streams.close()


def prepare(streams: Streams) -> None:
    mine = OutboundSettings("camera", "vp8", 100_000, lambda: TestPicture(128, 96, 1))
    streams.prepare(mine, CONTEXT, encrypted=True, on_fault=lambda why: None)


async def begun(room: Room, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    await asyncio.wait_for(room.asked.wait(), 30)
    room.asked.clear()
    return task


REFUSALS = [SfuError("sdp-refused", "no"), MediaError("bad-sdp", "no"), None]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_connection_that_the_room_did_not_take_is_closed(
    streams: Streams, refusal: Exception | None
) -> None:
    prepare(streams)
    for publishes in (True, False):
        room = Room(refusal)
        its = cast(JanusRoom, room)
        work = streams.publish(its, "camera", "") if publishes else streams.subscribe(its, FEED, KEY)
        task = await begun(room, work)
        if refusal is None:
            task.cancel()
        room.go.set()
        with pytest.raises(BaseException) as raised:
            await task
        assert raised.type is (type(refusal) if refusal else asyncio.CancelledError)
    assert [peer.closed for peer in Peer.made] == [True, True]


async def test_a_feed_that_goes_while_it_is_subscribed_to_is_given_back(streams: Streams) -> None:
    room = Room()
    task = await begun(room, streams.subscribe(cast(JanusRoom, room), FEED, KEY))
    await streams.unsubscribe(cast(JanusRoom, room), FEED.id)
    room.go.set()
    await task
    assert room.subscribed == []
    # Another feed may be tried now.
    other = Feed("9", "", "vp8", True)
    await streams.subscribe(cast(JanusRoom, room), other, KEY)
    assert (streams.incoming[KEY].feed_id, room.subscribed) == ("9", ["9"])


async def test_streams_may_come_while_a_feed_is_given_back_and_while_all_ends(streams: Streams) -> None:
    room = Room()
    room.go.set()
    await streams.subscribe(cast(JanusRoom, room), FEED, KEY)
    room.asked.clear()
    room.go.clear()
    task = await begun(room, streams.unsubscribe(cast(JanusRoom, room), FEED.id))
    streams.open(StreamContext("meeting", bytes(16), "second", "vp8"), "terminal", encrypted=True)
    room.go.set()
    await task

    closing = asyncio.ensure_future(streams.close())
    await asyncio.sleep(0)
    streams.open(StreamContext("meeting", bytes(16), "third", "vp8"), "terminal", encrypted=True)
    await closing
