"""A hostile SFU: a real Janus behind signalling that says what it likes; and peers who forge media."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from aiortc.mediastreams import AudioStreamTrack
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from dongled.agent.sfu.api import Feed
from dongled.media.inbound import InboundStream
from dongled.media.jitter import ReceivedFrame
from dongled.media.outbound import OutboundStream, WireFrame
from dongled.media.webrtc import IceSettings, Publication, Subscription
from integration.intruder import Intruder
from integration.stock_peers import StockPublisher
from support.netns import ADDRESS

JANUS = Subprotocol("janus-protocol")
ICE = IceSettings()

Item = dict[str, Any]


class HostileSfu:
    """Carries one terminal's signalling to Janus and back.

    ``rewrite`` is given each list of publishers that Janus tells, and returns what the terminal is told.
    ``publishes`` tells of feeds of its own; ``splice`` names the room and the feed that the terminal gets in
    place of one that it was told of.
    """

    def __init__(self, janus: str) -> None:
        self._janus = janus
        self.url = ""
        self.rewrite: Callable[[list[Item]], list[Item]] = lambda items: items
        self.known: dict[str, Item] = {}
        self.splice: dict[str, tuple[str, str]] = {}
        self._room: Item | None = None
        self._terminal: ServerConnection | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[HostileSfu]:
        async with serve(self._carry, ADDRESS, 0, subprotocols=[JANUS]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://{ADDRESS}:{port}"
            yield self

    async def publishes(self, *items: Item) -> None:
        await self._tell({"publishers": list(items)})

    async def unpublishes(self, feed: str) -> None:
        await self._tell({"unpublished": self.known[feed]["id"]})

    async def _tell(self, what: Item) -> None:
        assert self._room is not None
        assert self._terminal is not None
        data = {"videoroom": "event", "room": self._room["room"], **what}
        event = {key: self._room[key] for key in ("session_id", "sender")}
        plugin = {"plugin": "janus.plugin.videoroom", "data": data}
        await self._terminal.send(json.dumps({"janus": "event", **event, "plugindata": plugin}))

    async def _carry(self, terminal: ServerConnection) -> None:
        self._terminal = terminal
        async with connect(self._janus, subprotocols=[JANUS], proxy=None) as janus:

            async def up() -> None:
                async for text in terminal:
                    await janus.send(json.dumps(self._write(json.loads(text))))

            async def down() -> None:
                async for text in janus:
                    await terminal.send(json.dumps(self._read(json.loads(text))))

            # Whichever end closes, so does the other.
            ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
                with contextlib.suppress(ConnectionClosed, asyncio.CancelledError):
                    await way

    def _write(self, message: Item) -> Item:
        body = message.get("body", {})
        if body.get("ptype") == "subscriber":
            for stream in body["streams"]:
                if (instead := self.splice.get(str(stream["feed"]))) is not None:
                    body["room"], stream["feed"] = instead
        return message

    def _read(self, message: Item) -> Item:
        data = message.get("plugindata", {}).get("data", {})
        if "publishers" in data:
            if data["videoroom"] == "joined":
                self._room = {key: message[key] for key in ("session_id", "sender")} | {"room": data["room"]}
            for item in data["publishers"]:
                self.known[str(item["id"])] = item
            data["publishers"] = self.rewrite(data["publishers"])
        return message


class Forged:
    """Stands in for an OutboundStream: sends ``frames`` again and again, thirty a second."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = itertools.cycle(enumerate(frames))
        self._wake: Callable[[], None] | None = None
        self._ready: list[WireFrame] = []
        self._timestamps = itertools.count(random.randrange(1 << 31), 3000)

    def attach(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._next()

    def detach(self, wake: Callable[[], None]) -> None:
        self._wake = None

    def take(self) -> WireFrame | None:
        return self._ready.pop(0) if self._ready else None

    def force_keyframe(self) -> None:
        pass

    def _next(self) -> None:
        if self._wake is None:
            return
        number, frame = next(self._frames)
        self._ready = [WireFrame(frame, next(self._timestamps), number == 0)]
        self._wake()
        asyncio.get_running_loop().call_later(1 / 30, self._next)


class Recorder:
    """Stands in for an InboundStream: keeps what came, sealed as it is, and can ask for key frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.enough = asyncio.Event()
        self.ask: Callable[[], None] | None = None

    def attach(self, ask_keyframe: Callable[[], None]) -> None:
        self.ask = ask_keyframe

    def detach(self, ask_keyframe: Callable[[], None]) -> None:
        self.ask = None

    def receive(self, frame: ReceivedFrame) -> None:
        self.frames.append(frame.data)
        if len(self.frames) >= 60:
            self.enough.set()


class Forger(Intruder):
    """Somebody in the room, of whom the SFU asks no certificate."""

    def __init__(self, url: str, room: str) -> None:
        super().__init__(url, room)
        self.feeds: dict[str, Feed] = {}
        self._published = asyncio.Event()

    def feed_published(self, feed: Feed) -> None:
        self.feeds[feed.id] = feed
        self._published.set()

    async def the_feed(self) -> Feed:
        """The one of the camera, which is the first."""
        async with asyncio.timeout(20):
            await self._published.wait()
        return next(iter(self.feeds.values()))

    async def publish(self, display: str, frames: Sequence[bytes]) -> str:
        """Returns the feed's id."""
        forged = cast(OutboundStream, Forged(frames))
        return await self.room.publish(display, Publication(forged, ICE))

    async def record(self, feed: Feed) -> Recorder:
        recorder = Recorder()
        await self.room.subscribe(feed, Subscription(cast(InboundStream, recorder), ICE))
        return recorder


class WithSound(StockPublisher):
    """Offers more than the one video that was announced."""

    async def offer(self) -> str:
        self.peer.addTrack(AudioStreamTrack())
        return await super().offer()
