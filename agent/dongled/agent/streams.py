"""The media of one session: my streams go out, peers' come in. It knows no protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    stream: OutboundStream
    publication: Publication
    codec: str
    generation: int | None = None


@dataclass(slots=True)
class Incoming:
    stream: InboundStream
    context: StreamContext
    terminal: str
    feed_id: str | None = None
    subscribed: bool = False


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
    ) -> None:
        """Make my stream ready for keys. ``on_fault`` is told why it broke, once it runs."""
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
        self.outgoing[mine.id] = Outgoing(stream, publication, mine.codec)

    async def publish(self, room: JanusRoom, stream_id: str, display: str) -> None:
        """Raises SfuError and the source's own error."""
        outgoing = self.outgoing[stream_id]
        await asyncio.to_thread(outgoing.stream.start)
        await room.publish(display, outgoing.publication)

    def seal_with(self, effect: SealWith) -> None:
        outgoing = self.outgoing[effect.stream]
        outgoing.stream.use_key(effect.kid, effect.base_key, effect.signing_key, effect.suite)
        outgoing.generation = effect.kid

    def stop_sealing(self, stream_id: str) -> None:
        """Nobody may watch: send nothing until there is a key again."""
        outgoing = self.outgoing[stream_id]
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

    def open(self, context: StreamContext, terminal: str, *, encrypted: bool) -> None:
        """Make ready for a peer's stream, before its keys or its feed, whichever comes first."""
        key = (context.session, context.stream)
        if key not in self.incoming:
            sinks = self._make_sinks(terminal, context.stream)
            stream = InboundStream(
                context,
                sinks.pictures,
                encoded_sinks=sinks.encoded,
                encrypted=encrypted,
                on_fault=self._told_on_the_loop(),
            )
            self.incoming[key] = Incoming(stream, context, terminal)

    def _told_on_the_loop(self) -> Callable[[MediaError], None]:
        loop = asyncio.get_running_loop()

        def fault(error: MediaError) -> None:
            loop.call_soon_threadsafe(self._on_sink_fault, error)

        return fault

    def open_with(self, effect: OpenWith) -> None:
        incoming = self.incoming[effect.session, effect.stream.id]
        incoming.stream.install(effect.kid, effect.base_key, effect.verify_key, effect.suite)

    def stop_opening(self, key: StreamKey, below: int | None) -> None:
        if (incoming := self.incoming.get(key)) is not None:
            incoming.stream.forget(below)

    async def subscribe(self, room: JanusRoom, feed: Feed, key: StreamKey) -> None:
        """Raises SfuError once the SFU has refused for two seconds."""
        incoming = self.incoming.get(key)
        if incoming is None or incoming.feed_id is not None:
            return
        incoming.feed_id = feed.id
        for tries_left in reversed(range(SUBSCRIBE_TRIES)):
            subscription = Subscription(incoming.stream, self._ice)
            try:
                await room.subscribe(feed, subscription)
                incoming.subscribed = True
                return
            except SfuError as error:
                await subscription.close()
                if error.reason != "no-such-feed" or tries_left == 0:
                    raise
            await asyncio.sleep(SUBSCRIBE_PAUSE)

    async def unsubscribe(self, room: JanusRoom, feed_id: str) -> None:
        for incoming in self.incoming.values():
            if incoming.feed_id == feed_id:
                incoming.feed_id = None
                await self._disconnect(room, feed_id, incoming)

    async def forget(self, room: JanusRoom, session: bytes) -> None:
        """A peer is gone: its keys, its decoder and its subscription go too."""
        for key in [key for key in self.incoming if key[0] == session]:
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
        for outgoing in self.outgoing.values():
            await asyncio.to_thread(outgoing.stream.stop)
        for incoming in self.incoming.values():
            await asyncio.to_thread(incoming.stream.close)
