"""One session in an encrypted meeting: drives the grant protocol's machine, the bus and the media."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dongled.agent.clock import boottime
from dongled.agent.logs.events import Event
from dongled.agent.meetings.feeds import encrypted_display, parse_encrypted
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.operations import Operations
from dongled.agent.meetings.private import PrivateMedia, Showable
from dongled.agent.meetings.streams import OutboundSettings, StreamKey, Streams
from dongled.agent.protocol.api import (
    Abandoned,
    Alarm,
    Broadcast,
    DeriveWanted,
    Effect,
    EvidenceWanted,
    Expelled,
    Judged,
    OpenWith,
    Peer,
    PeerChanged,
    PeerJoined,
    PeerLeft,
    PrivateBegan,
    PrivateEnded,
    PrivateInvited,
    Refused,
    SealWith,
    SignWanted,
    StopOpening,
    StopSealing,
    Stream,
)
from dongled.agent.protocol.bans import Bans
from dongled.agent.protocol.member import Member
from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings
from dongled.agent.tasks import OwnedTasks
from dongled.agent.terminal import Terminal
from dongled.media.api import StreamContext
from dongled.media.errors import MediaError
from dongled.media.rules import RULES
from dongled.media.webrtc import BusLink, IceSettings
from dongled.tokens.errors import TokenError
from dongled.tokens.state import PASSING

log = logging.getLogger(__name__)

# How long a leaving terminal tries to tell the others.
GOODBYE = 1.0

# Seconds between two looks at whether what was subscribed to opens.
REVIEW_EVERY = 0.5


class EncryptedSession:
    """A session lives from joining until something ends it; a new one starts with new keys.

    Every callback of the room runs on the event loop, feeds the machine, and carries out what it wants.
    """

    def __init__(
        self,
        meeting: str,
        room: JanusSettings,
        ice: IceSettings,
        terminal: Terminal,
        mine: list[OutboundSettings],
        streams: Streams,
        want: Callable[[Peer, Stream], bool],
        journal: Journal,
        stay: Callable[[], Awaitable[None]] | None = None,
        bans: Bans | None = None,
        note: Callable[[Effect], None] = lambda effect: None,
        showable: Showable | None = None,
    ) -> None:
        """``stay``: how long to stay in the room, mute and without keys, once the token is lost.

        ``note`` is shown every effect.
        """
        self._meeting = meeting
        self._stay = stay
        self._note = note
        self._terminal = terminal
        self.streams = streams
        self._journal = journal
        self._want = want
        self.member = Member(
            meeting=meeting,
            terminal=terminal.urn,
            identity_chain=terminal.identity_chain,
            data_point=terminal.keys.data.point,
            data_chain=terminal.data_chain,
            streams=[Stream(stream.id, stream.codec) for stream in mine],
            policy=terminal.policy,
            want=want,
            bans=bans,
        )
        self.room = JanusRoom(room, self, lambda: BusLink(ice))
        self._feeds: dict[str, Feed] = {}
        self._peers: dict[bytes, Peer] = {}
        self._tasks = OwnedTasks(self._task_failed)
        self._operations = Operations(
            self.member, terminal.keys, self._tasks, self._pump, self._token_failed, terminal.evidence
        )
        self.private = PrivateMedia(
            meeting, self.member, self.room, streams, showable or Showable(), journal, self._tasks, self._pump
        )
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self.parted = False
        """Whether it has dropped its keys for good; the room may still have to be left."""
        for stream in mine:
            context = StreamContext(meeting, self.member.session, stream.id, stream.codec)
            streams.prepare(stream, context, encrypted=True, on_fault=self._end)

    @property
    def name(self) -> str:
        return self.member.session.hex()

    async def run(self, joined: Callable[[], None]) -> str:
        """Join, stay, and say why it ended. Leaves cleanly when cancelled. Raises SfuError."""
        self._terminal.lost.add_done_callback(self._token_lost)
        try:
            await self.room.join(self.name)
            joined()
            self._tasks.spawn(self._send())
            self._tasks.spawn(self._review_feeds())
            self.member.start(boottime())
            self._pump()
            for stream_id in self.streams.outgoing:
                display = encrypted_display(self.member.session, stream_id)
                self._tasks.spawn(self.streams.publish(self.room, stream_id, display))
            why = await self._ended
            if self._terminal.lost.done() and self._stay is not None:
                await self._part()
                await self._stay_mute(self._stay)
            return why
        finally:
            self._terminal.lost.remove_done_callback(self._token_lost)
            await self._part()
            await self.room.leave()

    async def _part(self) -> None:
        """Drop every key and tell the others; what is left is a mute connection to the room."""
        self.parted = True
        self.streams.drop_keys()
        try:
            await self._say_goodbye()
        finally:
            await self._tasks.cancel()
            await self.streams.close()

    async def _stay_mute(self, stay: Callable[[], Awaitable[None]]) -> None:
        self._peers.clear()
        self._ended = asyncio.get_running_loop().create_future()
        await self.room.end_streams()
        staying = asyncio.ensure_future(stay())
        either: list[asyncio.Future[Any]] = [staying, self._ended]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            staying.cancel()

    def _token_lost(self, lost: asyncio.Future[TokenError]) -> None:
        # At once, not when the session comes to it: media stops here (P13).
        self.streams.drop_keys()
        error = lost.result()
        self._end(f"token: {error} [{error.reason}]")

    def judge_again(self) -> None:
        """The policy has learned something about somebody."""
        self._pump(partial(self.member.rejudge, boottime()))

    def expel(self, peer: Peer, reason: str) -> None:
        """As a moderator. Raises AgentError."""
        self.member.expel(peer.session, reason, boottime())
        self._pump()

    def peers_named(self, name: str) -> list[Peer]:
        """Peers whose terminal, its UUID, subject or session is ``name``."""
        return [
            peer
            for peer in self._peers.values()
            if name
            in (peer.terminal, peer.terminal.removeprefix("urn:uuid:"), peer.subject, peer.session.hex())
        ]

    @property
    def terminal(self) -> Terminal:
        """Who was announced, with the certificates of then."""
        return self._terminal

    def end(self, why: str) -> None:
        """Leave in order; the meeting is joined again as a new session."""
        self._end(why)

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    def _task_failed(self, error: BaseException) -> None:
        log.error("meeting %s: %s", self._meeting, error, exc_info=error)
        self._end(str(error))

    async def _say_goodbye(self) -> None:
        """Tell the others, as far as the bus still carries it; nobody waits for more than a second."""
        if self._timer is not None:
            self._timer.cancel()
        self.member.leave(boottime())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                self._pump()
                if self._timer is not None:
                    self._timer.cancel()
                await self._outbox.join()

    # --- my streams out, peers' streams in -------------------------------------------------------------

    def _watch(self, feed: Feed) -> None:
        """Subscribe to a feed once a verified peer announced the stream that it claims to carry."""
        claim = parse_encrypted(feed.display)
        peer = self._peers.get(claim.session) if claim else None
        if claim is None or peer is None or self.parted:
            return
        private = self.private.feed(peer.session, claim.stream)
        if private is not None:
            stream = private.stream
        else:
            found = next((stream for stream in peer.streams if stream.id == claim.stream), None)
            if found is None or found.codec not in RULES or not self._want(peer, found):
                return
            stream = found
        if not feed.encrypted or feed.codec != stream.codec:
            reason = "feed-codec" if feed.encrypted else "feed-plain"
            detail = f"{peer.subject} announced {stream.codec}, encrypted"
            self._journal.refusal(reason, detail, feed.id, boottime())
            return
        if self._ready(peer, stream):
            key = (peer.session, stream.id)
            self.streams.claimed(feed, key)
            self._tasks.spawn(self._subscribe(feed, key))

    def _ready(self, peer: Peer, stream: Stream, key: OpenWith | None = None) -> bool:
        """Be ready for a peer's stream, with a key if there is one; whoever is refused costs only itself."""
        context = StreamContext(self._meeting, peer.session, stream.id, stream.codec)
        name = self.private.name(peer.session, stream.id)
        try:
            self.streams.open(context, peer.terminal, encrypted=True, name=name)
            if key is not None:
                self.streams.open_with(key)
        except MediaError as error:
            self._journal.refusal(error.reason, str(error), peer.described, boottime())
            return False
        return True

    async def _subscribe(self, feed: Feed, key: StreamKey) -> None:
        try:
            await self.streams.subscribe(self.room, feed, key)
        except (SfuError, MediaError) as error:
            # Whoever published it broke it: that must not cost the streams of the others.
            self._journal.refusal(error.reason, str(error), feed.id, boottime())

    async def _review_feeds(self) -> None:
        while True:
            await asyncio.sleep(REVIEW_EVERY)
            for feed, key in self.streams.second_choices(boottime()):
                await self.streams.drop_feed(self.room, key)
                self._tasks.spawn(self._subscribe(feed, key))

    # --- RoomListener: what the SFU says --------------------------------------------------------------

    def feed_published(self, feed: Feed) -> None:
        self._feeds[feed.id] = feed
        self._watch(feed)

    def feed_gone(self, feed_id: str) -> None:
        self._feeds.pop(feed_id, None)
        if self.parted:
            return
        self.streams.withdrawn(feed_id)
        self._tasks.spawn(self.streams.unsubscribe(self.room, feed_id))

    def bus_message(self, source: str, message: bytes) -> None:
        self._pump(partial(self.member.receive, source, message, boottime()))

    def bus_member_left(self, source: str) -> None:
        self._pump(partial(self.member.source_left, source, boottime()))

    def bus_refused(self, source: str, reason: str) -> None:
        self._journal.refusal(reason, "on the bus", source, boottime())

    def connection_lost(self, reason: str) -> None:
        self._end(reason)

    # --- what the machine wants -----------------------------------------------------------------------

    def _pump(self, step: Callable[[], None] = lambda: None) -> None:
        """Have the machine take a step, and carry out what it wants then.

        What a defect leaves undone may have been to stop sealing: it costs the session, and its keys at once.
        """
        try:
            step()
            for effect in self.member.take_effects():
                self._carry_out(effect)
        except Exception as error:  # noqa: BLE001 - whatever it is
            # What it wanted before that may have been to seal: the goodbye must not do it.
            self.member.take_effects()
            self.streams.drop_keys()
            self._task_failed(error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.member.next_tick()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - boottime()), self._tick)

    def _tick(self) -> None:
        for stream, kid, ctr in self.streams.positions():
            self.member.stream_position(stream, kid, ctr)
        for (session, stream), (kid, ctr) in self.streams.opened_positions():
            self.member.opened_position(session, stream, kid, ctr)
        self._pump(partial(self.member.tick, boottime()))

    def _carry_out(self, effect: Effect) -> None:
        self._note(effect)
        match effect:
            case Broadcast(message):
                self._outbox.put_nowait(message)
            case SignWanted() | DeriveWanted() | EvidenceWanted() | Abandoned():
                self._operations.carry_out(effect)
            case SealWith():
                self.streams.seal_with(effect)
            case StopSealing(stream_id):
                self.streams.stop_sealing(stream_id)
            case OpenWith(session, stream):
                self._ready(self._peers[session], stream, effect)
            case StopOpening(session, stream, below):
                self.streams.stop_opening((session, stream), below)
            case PeerJoined(peer) | PeerChanged(peer):
                if peer.session not in self._peers:
                    self._journal.event(
                        Event.PEER_JOINED,
                        f"joined: {peer.described}",
                        peer=peer.terminal,
                        subject=peer.subject,
                        session=peer.session.hex(),
                    )
                self._peers[peer.session] = peer
                for feed in self._feeds.values():
                    self._watch(feed)
            case PeerLeft(session, reason):
                gone = self._peers.pop(session)
                text = f"left ({reason}): {gone.described}"
                self._journal.event(Event.PEER_LEFT, text, peer=gone.terminal, reason=reason)
                self._tasks.spawn(self.streams.forget(self.room, session))
            case PrivateInvited(session):
                self.private.invited(effect, self._peers[session])
            case PrivateBegan(session):
                self.private.began(effect, self._peers[session])
                for feed in self._feeds.values():
                    self._watch(feed)
            case PrivateEnded(session):
                self.private.ended(effect, self._peers[session])
            case Expelled(terminal, by, reason):
                text = f"expelled by {self._described(by)}: {self._described(terminal)}"
                text += f" ({reason})" if reason else ""
                self._journal.event(Event.PEER_EXPELLED, text, peer=terminal, by=by, reason=reason)
            case Refused(reason, detail, source, session):
                known = self._peers.get(session) if session else None
                self._journal.refusal(reason, detail, known.described if known else source, boottime())
            case Judged(verdict, peer, names, reason, detail):
                why = f"{reason}: {detail}" if reason else detail
                text = f"{verdict}: {', '.join(names)} to {peer.described}; {why}"
                self._journal.event(Event.JUDGED, text, peer=peer.terminal, verdict=verdict, reason=reason)
            case Alarm(reason, detail):
                self._journal.alarm(reason, detail)

    def _described(self, terminal: str) -> str:
        """A peer by its terminal's name, or just that name."""
        known = (peer for peer in self._peers.values() if peer.terminal == terminal)
        return next((peer.described for peer in known), terminal)

    async def _send(self) -> None:
        while True:
            message = await self._outbox.get()
            try:
                await self.room.broadcast(message)
            finally:
                self._outbox.task_done()

    def _token_failed(self, error: TokenError) -> None:
        """What passes is tried again; any other failure ends the session and its keys (P13)."""
        # A point that is none is its sender's fault.
        if error.reason not in PASSING | {"bad-point"}:
            self._terminal.lose(error)
