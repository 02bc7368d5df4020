"""Janus's VideoRoom: who publishes, publishing a stream, subscribing to one.

https://janus.conf.meetecho.com/docs/videoroom.html, read beside the source of 1.1.2. One handle stays in
the room as a participant that publishes nothing and hears who does; each stream published has a handle of
its own, and so has each subscription.

Janus 1.1.2 takes a publisher's word for being end-to-end encrypted, keeps plain ones out of a room that
requires it, and tells subscribers nothing; newer versions flag their offers. So a feed is told as what
the meeting is configured to be, which is a claim like all that an SFU says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from dongled.agent.sfu.api import Feed, RoomListener, SfuError
from dongled.agent.sfu.janus import wire
from dongled.agent.sfu.janus.connection import Handle, JanusConnection
from dongled.agent.sfu.janus.errors import VIDEOROOM
from dongled.agent.sfu.janus.rooms import find_or_create, join_error, with_pin
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.sfu.janus.transactions import Answered, HandleEvent
from dongled.media.api import Answerer, Offerer

MAX_FEEDS = 256
# Janus's own default is 3 publishers in a room.
PUBLISHERS = 100
CODECS = frozenset({"vp8", "vp9", "h264", "av1", "h265"})

_log = logging.getLogger(__name__)


class VideoRoom:
    """The room's media. ``lost`` is called when the SFU put us out of the room."""

    def __init__(
        self,
        connection: JanusConnection,
        settings: JanusSettings,
        listener: RoomListener,
        lost: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._listener = listener
        self._lost = lost
        self._room: wire.JanusId = settings.room
        self._private_id: int | None = None
        self._feeds: dict[wire.JanusId, Feed] = {}
        self._publications: dict[wire.JanusId, tuple[Handle, Offerer]] = {}
        # Every id that a publication of ours ever had.
        self._own: set[wire.JanusId] = set()
        self._subscriptions: dict[wire.JanusId, tuple[Handle, Answerer]] = {}
        self._subscribing: set[wire.JanusId] = set()
        self._closing: set[asyncio.Task[None]] = set()
        # Events that came before the answer to `join` was read; None once it was.
        self._early: list[HandleEvent] | None = []

    async def open(self) -> None:
        """Create the room where it is missing and allowed, and enter it. Raises SfuError."""
        handle = await self._connection.attach(VIDEOROOM)
        handle.on_event = self._on_event
        self._room = await find_or_create(
            handle, self._settings, publishers=PUBLISHERS, require_e2ee=self._settings.encrypted
        )
        answer = await self._join(handle, {"ptype": "publisher"})
        self._private_id = wire.integer(answer.data, "private_id")
        self._published(answer.data)
        early, self._early = self._early or [], None
        for event in early:
            self._on_event(event)

    async def _join(self, handle: Handle, more: dict[str, Any]) -> Answered:
        try:
            body = {"request": "join", "room": self._room, **more}
            return await handle.request(with_pin(body, self._settings))
        except SfuError as error:
            raise join_error(error, self._settings) from None

    async def publish(self, display: str, connection: Offerer) -> str:
        """Publish what ``connection`` offers under this display name; returns its feed id.

        Raises SfuError, or what ``connection`` raises; either way nothing stays published.
        """
        handle = await self._connection.attach(VIDEOROOM)
        handle.on_event = self._on_publication_event
        try:
            joined = await self._join(handle, {"ptype": "publisher", "display": display})
            identity = wire.janus_id(joined.data, "id", self._room)
            self._own.add(identity)
            answer = await self._publish(handle, self._jsep("offer", await connection.offer()))
            await connection.accept(answer)
        except BaseException:
            await self._give_back(handle)
            raise
        self._publications[identity] = (handle, connection)
        return str(identity)

    async def _publish(self, handle: Handle, offer: dict[str, Any]) -> str:
        try:
            answer = (await handle.request({"request": "publish"}, offer)).jsep
        except SfuError as error:
            # The PIN was taken at the join: here 433 has one meaning left.
            if error.reason == "room-unauthorized":
                raise SfuError(
                    "room-encrypted-only",
                    "the room on the SFU takes encrypted streams only",
                    "configure the meeting as encrypted, or use another room",
                ) from None
            raise
        if answer is None or answer.type != "answer":
            raise wire.malformed("no answer to our offer")
        return answer.sdp

    def _jsep(self, kind: str, sdp: str) -> dict[str, Any]:
        return {"type": kind, "sdp": sdp, "e2ee": self._settings.encrypted}

    async def unpublish(self, feed_id: str) -> None:
        """Take a stream of ours out of the room and close its peer connection; unknown ids are nothing."""
        for identity in [own for own in self._publications if str(own) == feed_id]:
            await self._end(*self._publications.pop(identity))

    async def subscribe(self, feed: Feed, connection: Answerer) -> None:
        """Receive a feed through ``connection``.

        Raises SfuError (``no-such-feed``, ``feed-encryption``...), or what ``connection`` raises.
        """
        identity = self._identity(feed.id)
        if identity in self._subscriptions or identity in self._subscribing:
            raise SfuError("already-subscribed", "this feed is already subscribed to")
        self._subscribing.add(identity)
        try:
            handle = await self._connection.attach(VIDEOROOM)
            try:
                await self._subscribe(handle, identity, connection)
            except BaseException:
                await self._give_back(handle)
                raise
        finally:
            self._subscribing.discard(identity)
        self._subscriptions[identity] = (handle, connection)

    async def _subscribe(self, handle: Handle, identity: wire.JanusId, connection: Answerer) -> None:
        handle.on_event = lambda event: self._on_subscription_event(identity, event)
        streams = {"streams": [{"feed": identity}], "private_id": self._private_id, "autoupdate": False}
        offer = (await self._join(handle, {"ptype": "subscriber", **streams})).jsep
        if offer is None or offer.type != "offer":
            raise wire.malformed("no offer of the feed")
        if offer.e2ee and not self._settings.encrypted:
            raise SfuError(
                "feed-encryption",
                f"feed {identity} is encrypted and the meeting is plain",
                "all terminals of a meeting must be configured alike",
            )
        answer = self._jsep("answer", await connection.answer(offer.sdp))
        await handle.request({"request": "start"}, answer)
        self._identity(str(identity))

    async def unsubscribe(self, feed_id: str) -> None:
        """Stop receiving a feed and close its peer connection; unknown ids are nothing."""
        for identity in [feed for feed in self._subscriptions if str(feed) == feed_id]:
            await self._end(*self._subscriptions.pop(identity))

    async def end_streams(self) -> None:
        """Take every stream of ours out of the room, and receive none."""
        for streams in (self._publications, self._subscriptions):
            while streams:
                await self._end(*streams.popitem()[1])

    async def close(self) -> None:
        """Close every peer connection. The handles die with the session."""
        connections: list[Offerer | Answerer] = [c for _, c in self._publications.values()]
        connections += [c for _, c in self._subscriptions.values()]
        self._publications.clear()
        self._subscriptions.clear()
        await asyncio.gather(*(connection.close() for connection in connections), *self._closing)

    async def _end(self, handle: Handle, connection: Offerer | Answerer) -> None:
        await self._give_back(handle)
        await connection.close()

    async def _give_back(self, handle: Handle) -> None:
        try:
            await handle.detach()
        except SfuError as error:
            _log.debug("a handle was not given back: %s", error)

    def _identity(self, feed_id: str) -> wire.JanusId:
        for identity in self._feeds:
            if str(identity) == feed_id:
                return identity
        raise SfuError("no-such-feed", "the feed is gone")

    # --- what the SFU tells -------------------------------------------------------------------------

    def _on_event(self, event: HandleEvent) -> None:
        if self._early is not None:
            if len(self._early) < MAX_FEEDS:
                self._early.append(event)
            return
        if event.kind in ("detached", "hangup"):
            self._lost("put-out")
            return
        if event.kind != "event":
            return
        data = event.data
        if data.get("videoroom") == "destroyed":
            self._lost("room-destroyed")
        elif "publishers" in data:
            self._published(data)
        elif data.get("leaving") == "ok":
            self._lost("put-out")
        else:
            for name in ("unpublished", "leaving", "kicked"):
                if name in data:
                    self._gone(wire.janus_id(data, name, self._room))

    def _on_publication_event(self, event: HandleEvent) -> None:
        if event.kind in ("hangup", "detached"):
            self._lost("publication-hangup")

    def _on_subscription_event(self, identity: wire.JanusId, event: HandleEvent) -> None:
        # The publisher is still there, only our way to it broke: told as gone and published again, so
        # that the daemon comes with a new peer connection.
        feed = self._feeds.get(identity)
        if event.kind in ("hangup", "detached") and feed is not None and identity in self._subscriptions:
            self._gone(identity)
            self._feeds[identity] = feed
            self._listener.feed_published(feed)

    def _published(self, data: wire.Json) -> None:
        for item in wire.items(data, "publishers", MAX_FEEDS):
            try:
                identity, feed = self._read_feed(item)
            except SfuError as error:
                _log.debug("ignored a publisher: %s", error)
                continue
            if identity in self._own or self._feeds.get(identity) == feed:
                continue
            if identity in self._feeds:
                self._gone(identity)
            if len(self._feeds) >= MAX_FEEDS:
                _log.debug("ignored a publisher: more than %d", MAX_FEEDS)
                return
            self._feeds[identity] = feed
            self._listener.feed_published(feed)

    def _read_feed(self, item: object) -> tuple[wire.JanusId, Feed]:
        if not isinstance(item, dict):
            raise wire.malformed("a publisher that is not an object")
        identity = wire.janus_id(item, "id", self._room)
        codec = wire.name(item, "video_codec", 16).lower()
        if codec not in CODECS:
            raise wire.malformed("a publisher of an unknown codec")
        display = wire.name(item, "display", 256) if "display" in item else ""
        encrypted = wire.boolean(item, "e2ee", self._settings.encrypted)
        return identity, Feed(str(identity), display, codec, encrypted)

    def _gone(self, identity: wire.JanusId) -> None:
        feed = self._feeds.pop(identity, None)
        if feed is None:
            return
        if identity in self._subscriptions:
            task = asyncio.get_running_loop().create_task(self._end(*self._subscriptions.pop(identity)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._listener.feed_gone(feed.id)
