"""A plain session: what one publisher in the room does, the others' streams do not suffer for."""

from __future__ import annotations

import asyncio

import pytest

from dongled.agent.meetings import plain as plain_module
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.plain import PlainSession
from dongled.agent.meetings.streams import Sinks, Streams
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusSettings
from dongled.media.webrtc import IceSettings


class Room:
    """Refuses each feed, and says when."""

    def __init__(self, *_: object) -> None:
        self.asked = asyncio.Event()

    async def join(self, _: str) -> None: ...

    async def subscribe(self, *_: object) -> None:
        self.asked.set()
        raise SfuError("sdp-refused", "no")

    async def unsubscribe(self, _: str) -> None: ...

    async def leave(self) -> None: ...


async def test_a_feed_that_is_refused_or_gone_costs_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain_module, "JanusRoom", Room)
    journal = Journal("demo")
    streams = Streams(IceSettings(), lambda peer, stream: Sinks(), lambda error: None)
    settings = JanusSettings("ws://127.0.0.1:1", "demo", encrypted=False)
    session = PlainSession("demo", settings, IceSettings(), "me", [], streams, lambda _: True, journal)
    joined = asyncio.Event()
    running = asyncio.create_task(session.run(joined.set))
    async with asyncio.timeout(30):
        await joined.wait()
        for number in range(3):
            feed = Feed(str(number), "dongled/1 plain somebody camera", "vp8", False)
            session.feed_published(feed)
            await session.room.asked.wait()  # type: ignore[attr-defined] # the one above
            (incoming,) = streams.incoming.values()
            # Our way to it broke, and it is still there.
            session.feed_gone(feed.id)
            session.feed_published(feed)
            session.room.asked.clear()  # type: ignore[attr-defined]
            await session.room.asked.wait()  # type: ignore[attr-defined]
            assert list(streams.incoming.values()) == [incoming]
            session.feed_gone(feed.id)
            await asyncio.to_thread(incoming.stream.close)
            assert journal.refused == {"sdp-refused": 2 * (number + 1)}
            assert not streams.incoming
            session.room.asked.clear()  # type: ignore[attr-defined]
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    session.feed_published(Feed("late", "dongled/1 plain somebody camera", "vp8", False))
    session.feed_gone("late")
    await asyncio.sleep(0)
    assert not streams.incoming
