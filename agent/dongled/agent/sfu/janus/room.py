"""A meeting's room on a Janus: what the daemon uses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dongled.agent.sfu.api import Feed, RoomListener, SfuError
from dongled.agent.sfu.bus import BusRefused
from dongled.agent.sfu.janus.connection import JanusConnection
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.sfu.janus.textroom import TextRoom
from dongled.agent.sfu.janus.videoroom import VideoRoom
from dongled.media.api import Answerer, Offerer, TextLink

__all__ = ["JanusRoom", "JanusSettings"]

# Seconds for what is left to close, whatever the SFU does.
CLOSE_WITHIN = 3.0

_log = logging.getLogger(__name__)


class JanusRoom:
    """One stay in a room: ``join`` once, ``leave`` once; after a loss, leave it and make a new one.

    ``listener.connection_lost`` is called at most once, never after ``leave`` began. Peer connections
    handed to ``publish`` and ``subscribe`` belong to the room once that succeeded: it closes them. When
    it raised, they are the caller's to close.
    """

    def __init__(
        self, settings: JanusSettings, listener: RoomListener, bus_link: Callable[[], TextLink]
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._bus_link = bus_link
        self._connection: JanusConnection | None = None
        self._video: VideoRoom | None = None
        self._text: TextRoom | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._entering: asyncio.Task[None] | None = None
        self._lost_by = ""
        self._over = False

    async def join(self, member: str) -> None:
        """Connect, enter the bus as ``member`` (in an encrypted meeting), then the video room.

        ``member`` has 1 to 128 printable characters and is the caller's alone in the room. Feeds that
        are there already are told before this returns. Raises SfuError, and then has left.
        """
        self._entering = asyncio.create_task(self._enter(member))
        try:
            await self._entering
        except BaseException as error:
            self._entering.cancel()
            await self.leave()
            if self._lost_by:
                raise SfuError(
                    self._lost_by, "the room was left or lost while it was being joined"
                ) from error
            raise
        finally:
            self._entering = None

    async def _enter(self, member: str) -> None:
        self._connection = JanusConnection(self._settings, self._lose)
        await self._connection.open()
        if self._settings.encrypted:
            self._text = TextRoom(
                self._connection, self._settings, self._listener, self._bus_link(), self._lose
            )
            await self._text.open(member)
            self._ticker = asyncio.create_task(self._tick(self._text))
        self._video = VideoRoom(self._connection, self._settings, self._listener, self._lose)
        await self._video.open()

    async def broadcast(self, message: bytes) -> None:
        """Send 1 to 65,536 bytes to every other member of the bus, in order. Raises SfuError."""
        if self._text is None or self._over:
            raise SfuError("no-bus", "this terminal is not on a bus")
        try:
            self._text.broadcast(message)
        except BusRefused as refused:
            raise SfuError(refused.reason, str(refused)) from None

    async def publish(self, display: str, connection: Offerer) -> str:
        """Publish a stream; returns the SFU's feed id. Raises SfuError or MediaError."""
        return await self._entered().publish(display, connection)

    async def unpublish(self, feed_id: str) -> None:
        """Stop publishing a stream and close its peer connection."""
        await self._entered().unpublish(feed_id)

    async def subscribe(self, feed: Feed, connection: Answerer) -> None:
        """Receive a feed. Raises SfuError or MediaError."""
        await self._entered().subscribe(feed, connection)

    async def unsubscribe(self, feed_id: str) -> None:
        """Stop receiving a feed and close its peer connection; to be called for a feed that is gone, too."""
        await self._entered().unsubscribe(feed_id)

    async def end_streams(self) -> None:
        """Stop publishing and receiving, and stay in the room. Raises SfuError."""
        await self._entered().end_streams()

    async def leave(self) -> None:
        """Leave and close every peer connection, within 4 s and without raising for a dead SFU."""
        self._over = True
        if self._entering is not None and not self._entering.done():
            self._lost_by = "left"
            self._entering.cancel()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._text is not None and self._connection is not None and self._connection.alive:
            await self._text.leave()
        parts = [part for part in (self._connection, self._text, self._video) if part is not None]
        if parts:
            closing = [asyncio.create_task(part.close()) for part in parts]
            await asyncio.wait(closing, timeout=CLOSE_WITHIN)
            for task in closing:
                task.cancel()
            for result in await asyncio.gather(*closing, return_exceptions=True):
                if isinstance(result, BaseException):
                    _log.debug("while leaving: %r", result)

    def _entered(self) -> VideoRoom:
        if self._video is None or self._over:
            raise SfuError("not-in-room", "this terminal is not in the room")
        return self._video

    def _lose(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        if self._entering is None:
            self._listener.connection_lost(reason)
        else:
            self._lost_by = reason
            self._entering.cancel()

    async def _tick(self, text: TextRoom) -> None:
        while True:
            await asyncio.sleep(1)
            text.expire()
