"""The media of one session: my streams go out, peers' come in. It knows no protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dongled.agent.clock import boottime
from dongled.agent.protocol.api import OpenWith, SealWith
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom
from dongled.media.api import EncodedSink, PictureSink, PictureSource, StreamContext
from dongled.media.errors import MediaError
from dongled.media.inbound import InboundStream
from dongled.media.outbound import OutboundStream
from dongled.media.webrtc import IceSettings, Publication, Subscription

log = logging.getLogger(__name__)

# A feed is announced before its publisher is connected, and Janus refuses to subscribe until then.
SUBSCRIBE_TRIES = 20
SUBSCRIBE_PAUSE = 0.1
# Seconds in which a feed has to bring a frame that opens, while others claim to carry the same stream.
SHOWS_WITHIN = 4.0
# The same once this many frames have come by it while there was a key.
SHOWS_AT_ONCE = 1.0
ENOUGH_FRAMES = 10

# A peer's stream: its session id and the stream's id.
StreamKey = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """A stream that this terminal publishes; ``bitrate`` in bit/s."""

    id: str
    codec: str
    bitrate: int
    open_source: Callable[[], PictureSource]


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a peer's stream goes."""

    pictures: Sequence[PictureSink] = ()
    encoded: Sequence[EncodedSink] = ()


@dataclass(slots=True)
class Outgoing:
    """``name`` is for people, ``feed_id`` the SFU's once it is published; ``to`` is whom alone it is for."""

    stream: OutboundStream
    publication: Publication
    codec: str
    name: str
    to: str
    generation: int | None = None
    feed_id: str | None = None


@dataclass(slots=True)
class Incoming:
    """``feeds`` claim to carry it, those not tried yet first; ``feed_id`` is the one subscribed to.

    ``opened_at`` (CLOCK_BOOTTIME, seconds) is when a frame of it was last seen to have opened, ``came`` how
    many had come by then; both begin anew with each feed, and ``came`` with the first key. ``name`` is for
    people.
    """

    stream: InboundStream
    context: StreamContext
    terminal: str
    name: str
    feeds: dict[str, Feed] = field(default_factory=dict)
    feed_id: str | None = None
    subscribed: bool = False
    opened: int = 0
    opened_at: float = 0.0
    came: int = 0
    keyed: bool = False


class Streams:
    """``sinks`` makes the sinks of a peer's stream from its terminal's name and the stream's id.

    ``on_sink_fault`` is told, on the event loop, of a sink that gave up.
    """

    def __init__(
        self,
        ice: IceSettings,
        sinks: Callable[[str, str], Sinks],
        on_sink_fault: Callable[[MediaError], None],
    ) -> None:
        self._on_sink_fault = on_sink_fault
        self._ice = ice
        self._make_sinks = sinks
        self.outgoing: dict[str, Outgoing] = {}
        self.incoming: dict[StreamKey, Incoming] = {}

    # --- mine -----------------------------------------------------------------------------------------

    def prepare(
        self,
        mine: OutboundSettings,
        context: StreamContext,
        *,
        encrypted: bool,
        on_fault: Callable[[str], None],
        to: str = "",
    ) -> None:
        """Make my stream ready for keys: ``context`` has its id in the meeting, ``mine`` that for people.

        ``to``: the one terminal that it is shown to, where it is private.
        ``on_fault`` is told why it broke, once it runs. Raises the source's own error.
        """
        loop = asyncio.get_running_loop()

        def fault(error: MediaError) -> None:
            loop.call_soon_threadsafe(on_fault, f"stream {mine.id}: {error} [{error.reason}]")

        def changed(state: str) -> None:
            if state == "failed":
                on_fault(f"stream {mine.id}: the connection to the SFU failed")

        stream = OutboundStream(
            mine.open_source(), context, bitrate=mine.bitrate, encrypted=encrypted, on_fault=fault
        )
        publication = Publication(stream, self._ice)
        publication.on_state(changed)
        self.outgoing[context.stream] = Outgoing(stream, publication, mine.codec, mine.id, to)

    async def publish(self, room: JanusRoom, stream_id: str, display: str) -> None:
        """Raises SfuError and the source's own error."""
        outgoing = self.outgoing.get(stream_id)
        if outgoing is None:
            return
        await asyncio.to_thread(outgoing.stream.start)
        try:
            feed_id = await room.publish(display, outgoing.publication)
        except BaseException:
            # The room closes what it took and nothing else; each try would leave sockets behind.
            await outgoing.publication.close()
            raise
        if self.outgoing.get(stream_id) is outgoing:
            outgoing.feed_id = feed_id
        else:
            await room.unpublish(feed_id)

    async def retract(self, room: JanusRoom, stream_id: str) -> None:
        """Show a stream of mine no more, and give its source back."""
        outgoing = self.outgoing.pop(stream_id, None)
        if outgoing is None:
            return
        outgoing.stream.drop_keys()
        if outgoing.feed_id is not None:
            await room.unpublish(outgoing.feed_id)
        await asyncio.to_thread(outgoing.stream.stop)

    def seal_with(self, effect: SealWith) -> None:
        # One that could not be opened is on its way out.
        if (outgoing := self.outgoing.get(effect.stream)) is not None:
            outgoing.stream.use_key(effect.kid, effect.base_key, effect.signing_key, effect.suite)
            outgoing.generation = effect.kid

    def stop_sealing(self, stream_id: str) -> None:
        """Nobody may watch: send nothing until there is a key again."""
        if (outgoing := self.outgoing.get(stream_id)) is not None:
            outgoing.stream.drop_keys()
            outgoing.generation = None

    def positions(self) -> Iterator[tuple[str, int, int]]:
        """Each stream's highest sealed (KID, CTR), for the beacons."""
        for stream_id, outgoing in self.outgoing.items():
            if (position := outgoing.stream.position) is not None:
                yield stream_id, *position

    def opened_positions(self) -> Iterator[tuple[StreamKey, tuple[int, int]]]:
        """The highest (KID, CTR) opened of each peer's stream, by which a stale one is known."""
        for key, incoming in self.incoming.items():
            if (last := incoming.stream.stats().last) is not None:
                yield key, last

    def drop_keys(self) -> None:
        """Nothing more is sealed or opened from now on."""
        for stream_id in self.outgoing:
            self.stop_sealing(stream_id)
        for incoming in self.incoming.values():
            incoming.stream.forget(None)

    # --- peers' ---------------------------------------------------------------------------------------

    def open(
        self, context: StreamContext, terminal: str, *, encrypted: bool, name: str | None = None
    ) -> None:
        """Make ready for a peer's stream, before its keys or its feed, whichever comes first.

        ``name``: what it is called for people, where that is not its id. Raises MediaError, of its sinks.
        """
        key, name = (context.session, context.stream), name or context.stream
        if key not in self.incoming:
            sinks = self._make_sinks(terminal, name)
            stream = InboundStream(
                context,
                sinks.pictures,
                encoded_sinks=sinks.encoded,
                encrypted=encrypted,
                on_fault=self._told_on_the_loop(),
            )
            self.incoming[key] = Incoming(stream, context, terminal, name)

    def _told_on_the_loop(self) -> Callable[[MediaError], None]:
        loop = asyncio.get_running_loop()

        def fault(error: MediaError) -> None:
            loop.call_soon_threadsafe(self._on_sink_fault, error)

        return fault

    def open_with(self, effect: OpenWith) -> None:
        """Raises MediaError for a key that contradicts an earlier one."""
        incoming = self.incoming[effect.session, effect.stream.id]
        if not incoming.keyed:
            incoming.keyed, incoming.came = True, incoming.stream.stats().frames_received
        incoming.stream.install(effect.kid, effect.base_key, effect.verify_key, effect.suite)

    def stop_opening(self, key: StreamKey, below: int | None) -> None:
        if (incoming := self.incoming.get(key)) is not None:
            incoming.stream.forget(below)

    def claimed(self, feed: Feed, key: StreamKey) -> None:
        """This feed says that it carries a stream that was opened."""
        self.incoming[key].feeds[feed.id] = feed

    def withdrawn(self, feed_id: str) -> None:
        """It is no longer published."""
        for incoming in self.incoming.values():
            incoming.feeds.pop(feed_id, None)

    def second_choices(self, now: float) -> list[tuple[Feed, StreamKey]]:
        """Streams of which no frame opens by the feed subscribed to, and the feed to try next.

        Anybody in the room can claim to carry a stream; who does carry it, its frames alone can say.
        """
        choices = []
        for key, incoming in self.incoming.items():
            stats = incoming.stream.stats()
            opened = stats.frames_opened
            judged = incoming.keyed and stats.frames_received - incoming.came >= ENOUGH_FRAMES
            patience = SHOWS_AT_ONCE if judged else SHOWS_WITHIN
            connecting = incoming.feed_id is not None and not incoming.subscribed
            if opened != incoming.opened or connecting:
                incoming.opened, incoming.opened_at = opened, now
                incoming.came = stats.frames_received
            elif incoming.feed_id is None or now - incoming.opened_at > patience:
                others = [feed for feed in incoming.feeds.values() if feed.id != incoming.feed_id]
                choices += [(feed, key) for feed in others[:1]]
        return choices

    async def drop_feed(self, room: JanusRoom, key: StreamKey) -> None:
        """Stop receiving a stream by the feed that carries it, which becomes the last to be tried again."""
        incoming = self.incoming.get(key)
        if incoming is not None and incoming.feed_id is not None:
            await self._disconnect(room, self._give_up(incoming, incoming.feed_id), incoming)

    @staticmethod
    def _give_up(incoming: Incoming, feed_id: str) -> str:
        incoming.feed_id = None
        if (feed := incoming.feeds.pop(feed_id, None)) is not None:
            incoming.feeds[feed_id] = feed
        return feed_id

    async def subscribe(self, room: JanusRoom, feed: Feed, key: StreamKey) -> None:
        """Raises MediaError, and SfuError once the SFU has refused for two seconds."""
        incoming = self.incoming.get(key)
        if incoming is None or incoming.feed_id is not None:
            return
        incoming.feed_id = feed.id
        try:
            await self._connect(room, feed, incoming)
        except (SfuError, MediaError):
            if incoming.feed_id == feed.id:
                self._give_up(incoming, feed.id)
            raise
        if self.incoming.get(key) is not incoming or incoming.feed_id != feed.id:
            # The stream was forgotten meanwhile, or the feed withdrawn.
            await room.unsubscribe(feed.id)
            return
        incoming.subscribed, incoming.opened_at = True, boottime()
        incoming.came = incoming.stream.stats().frames_received

    async def _connect(self, room: JanusRoom, feed: Feed, incoming: Incoming) -> None:
        for tries_left in reversed(range(SUBSCRIBE_TRIES)):
            subscription = Subscription(incoming.stream, self._ice)
            try:
                await room.subscribe(feed, subscription)
                return
            except BaseException as error:
                await subscription.close()
                not_yet = isinstance(error, SfuError) and error.reason == "no-such-feed"
                if not not_yet or tries_left == 0:
                    raise
            await asyncio.sleep(SUBSCRIBE_PAUSE)

    async def unsubscribe(self, room: JanusRoom, feed_id: str) -> None:
        for incoming in [each for each in self.incoming.values() if each.feed_id == feed_id]:
            if incoming.feed_id == feed_id:
                incoming.feed_id = None
                await self._disconnect(room, feed_id, incoming)

    async def forget(self, room: JanusRoom, session: bytes, stream: str | None = None) -> None:
        """A peer, or one stream of it, is gone: its keys, its decoder and its subscription go too."""
        for key in [key for key in self.incoming if key[0] == session and stream in (None, key[1])]:
            incoming = self.incoming.pop(key)
            incoming.stream.forget(None)
            if incoming.feed_id is not None:
                await self._disconnect(room, incoming.feed_id, incoming)
            await asyncio.to_thread(incoming.stream.close)

    @staticmethod
    async def _disconnect(room: JanusRoom, feed_id: str, incoming: Incoming) -> None:
        if incoming.subscribed:
            incoming.subscribed = False
            await room.unsubscribe(feed_id)

    async def close(self) -> None:
        """Stop encoders and decoders and close sinks; the peer connections are the room's to close."""
        for outgoing in list(self.outgoing.values()):
            await asyncio.to_thread(outgoing.stream.stop)
        for incoming in list(self.incoming.values()):
            await asyncio.to_thread(incoming.stream.close)
