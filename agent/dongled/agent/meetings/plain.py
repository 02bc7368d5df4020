"""One session in a plain meeting: no keys, no bus, and nothing that an encrypted meeting would accept."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable

from dongled.agent.clock import boottime
from dongled.agent.meetings.feeds import parse_plain, plain_display
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.streams import OutboundSettings, Streams
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings
from dongled.agent.tasks import OwnedTasks
from dongled.media.api import StreamContext
from dongled.media.errors import MediaError
from dongled.media.webrtc import BusLink, IceSettings

log = logging.getLogger(__name__)


class PlainSession:
    """Publishes and watches without encryption, in a meeting whose configuration says ``plain``."""

    def __init__(
        self,
        meeting: str,
        room: JanusSettings,
        ice: IceSettings,
        name: str,
        mine: list[OutboundSettings],
        streams: Streams,
        want: Callable[[str], bool],
        journal: Journal,
    ) -> None:
        """``want`` is asked with the publisher's name, which nothing vouches for."""
        self._meeting = meeting
        self._display_name = name
        self.streams = streams
        self._want = want
        self._journal = journal
        self._session = secrets.token_bytes(16)
        self.room = JanusRoom(room, self, lambda: BusLink(ice))
        self._feeds: set[str] = set()
        self._tasks = OwnedTasks(self._task_failed)
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for stream in mine:
            context = StreamContext(meeting, self._session, stream.id, stream.codec)
            streams.prepare(stream, context, encrypted=False, on_fault=self._end)

    @property
    def name(self) -> str:
        return self._session.hex()

    async def run(self, joined: Callable[[], None]) -> str:
        """Join, stay, and say why it ended. Leaves cleanly when cancelled. Raises SfuError."""
        try:
            await self.room.join(self.name)
            joined()
            for stream_id in self.streams.outgoing:
                display = plain_display(self._display_name, stream_id)
                self._tasks.spawn(self.streams.publish(self.room, stream_id, display))
            return await self._ended
        finally:
            # What the SFU tells from here on begins nothing.
            self._end("left")
            await self._tasks.cancel()
            await self.streams.close()
            await self.room.leave()

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    def _task_failed(self, error: BaseException) -> None:
        log.error("meeting %s: %s", self._meeting, error, exc_info=error)
        self._end(str(error))

    # --- RoomListener ---------------------------------------------------------------------------------

    def feed_published(self, feed: Feed) -> None:
        claim = parse_plain(feed.display)
        if claim is None or feed.encrypted or not self._want(claim.name) or self._ended.done():
            return
        self._feeds.add(feed.id)
        context = StreamContext(self._meeting, _session_of(feed.id), claim.stream, feed.codec)
        self._tasks.spawn(self._subscribe(feed, context, claim.name))

    async def _subscribe(self, feed: Feed, context: StreamContext, name: str) -> None:
        try:
            self.streams.open(context, name, encrypted=False)
            await self.streams.subscribe(self.room, feed, (context.session, context.stream))
        except (SfuError, MediaError) as error:
            # Whoever published it broke it: that must not cost the streams of the others.
            self._journal.refusal(error.reason, str(error), feed.id, boottime())

    def feed_gone(self, feed_id: str) -> None:
        self._feeds.discard(feed_id)
        if not self._ended.done():
            self._tasks.spawn(self._let_go(feed_id))

    async def _let_go(self, feed_id: str) -> None:
        await self.streams.unsubscribe(self.room, feed_id)
        # Where only our way to it broke, it is published again at once, and its recording goes on.
        if feed_id not in self._feeds:
            await self.streams.forget(self.room, _session_of(feed_id))

    def bus_message(self, source: str, message: bytes) -> None:
        self.bus_refused(source, "bus-in-plain-meeting")

    def bus_member_left(self, source: str) -> None:
        pass

    def bus_refused(self, source: str, reason: str) -> None:
        self._journal.refusal(reason, "on the bus", source, boottime())

    def connection_lost(self, reason: str) -> None:
        self._end(reason)


def _session_of(feed_id: str) -> bytes:
    """A feed has no session of its own here: its name in the room tells it from the others."""
    return hashlib.sha256(feed_id.encode()).digest()[:16]
