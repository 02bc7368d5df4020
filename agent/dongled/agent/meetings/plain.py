"""One session in a plain meeting: no keys, no bus, and nothing that an encrypted meeting would accept."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable

from dongled.agent.meetings.feeds import parse_plain, plain_display
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.streams import OutboundSettings, Streams
from dongled.agent.sfu.api import Feed
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings
from dongled.agent.tasks import OwnedTasks
from dongled.media.api import StreamContext
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
        if claim is None or feed.encrypted or not self._want(claim.name):
            return
        # A feed has no session of its own here: its name in the room tells it from the others.
        session = hashlib.sha256(feed.id.encode()).digest()[:16]
        context = StreamContext(self._meeting, session, claim.stream, feed.codec)
        self.streams.open(context, claim.name, encrypted=False)
        self._tasks.spawn(self.streams.subscribe(self.room, feed, (session, claim.stream)))

    def feed_gone(self, feed_id: str) -> None:
        self._tasks.spawn(self.streams.unsubscribe(self.room, feed_id))

    def bus_message(self, source: str, message: bytes) -> None:
        self.bus_refused(source, "bus-in-plain-meeting")

    def bus_member_left(self, source: str) -> None:
        pass

    def bus_refused(self, source: str, reason: str) -> None:
        self._journal.refusal(reason, "on the bus", source, asyncio.get_running_loop().time())

    def connection_lost(self, reason: str) -> None:
        self._end(reason)
