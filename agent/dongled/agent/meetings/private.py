"""The media of private sessions: published and watched for as long as one lasts, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.logs.events import Event
from dongled.agent.meetings.feeds import encrypted_display
from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.streams import OutboundSettings, Streams
from dongled.agent.protocol.api import Peer, PrivateBegan, PrivateEnded, PrivateFeed, PrivateInvited
from dongled.agent.protocol.member import Member
from dongled.agent.sfu.janus.room import JanusRoom
from dongled.agent.tasks import OwnedTasks
from dongled.capture.errors import CaptureError
from dongled.media.api import StreamContext
from dongled.media.errors import MediaError


@dataclass(frozen=True, slots=True)
class Showable:
    """Streams of mine that may be shown privately, by id; ``usual`` are shown where none is named."""

    streams: Mapping[str, OutboundSettings] = field(default_factory=dict)
    usual: Sequence[str] = ()

    def named(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Id and codec of each. Raises AgentError ``no-such-stream``."""
        for name in names:
            if name not in self.streams:
                raise AgentError(
                    "no-such-stream",
                    f"There is no stream {name!r} to show privately.",
                    "List it in [[meeting]] private, and publish it in no meeting.",
                )
        return [(name, self.streams[name].codec) for name in names]


class PrivateMedia:
    """What one session in a meeting does for its private sessions. All on the event loop."""

    def __init__(
        self,
        meeting: str,
        member: Member,
        room: JanusRoom,
        streams: Streams,
        showable: Showable,
        journal: Journal,
        tasks: OwnedTasks,
        pump: Callable[[], None],
    ) -> None:
        self._meeting = meeting
        self._member = member
        self._room = room
        self._streams = streams
        self._showable = showable
        self._journal = journal
        self._tasks = tasks
        self._pump = pump
        self._watched: dict[tuple[bytes, str], PrivateFeed] = {}

    # --- what people say

    def invite(self, peer: Peer, names: Sequence[str]) -> None:
        """Raises AgentError."""
        chosen = self._showable.named(names or self._showable.usual)
        self._member.invite(peer.session, chosen, boottime())
        self._journal.event(Event.PRIVATE, f"private: {peer.described} is invited to {_list(chosen)}")
        self._pump()

    def accept(self, peer: Peer, names: Sequence[str]) -> None:
        """Raises AgentError."""
        self._member.accept(peer.session, self._showable.named(names), boottime())
        self._pump()

    def end(self, peer: Peer) -> None:
        """Raises AgentError."""
        self._member.end_private(peer.session, boottime())
        self._pump()

    def partners(self, what: str) -> list[Peer]:
        """Whose invitation can be accepted, or with whom there is something to end."""
        known = self._member.private(boottime())
        return [each.peer for each in known if what == "end" or (what, each.state) == ("accept", "invited")]

    # --- what the machine says

    def feed(self, session: bytes, stream: str) -> PrivateFeed | None:
        """The private stream of a peer that goes by this id, while it is shown to me."""
        return self._watched.get((session, stream))

    def name(self, session: bytes, stream: str) -> str | None:
        """What it is called in status and files."""
        feed = self.feed(session, stream)
        return f"private-{feed.name}" if feed else None

    def invited(self, effect: PrivateInvited, peer: Peer) -> None:
        names = ", ".join(effect.names)
        self._journal.event(
            Event.PRIVATE,
            f"private: invited by {peer.described} to {names}; it lapses in "
            f"{effect.lifetime:.0f} s: 'dongled private accept' or 'end'",
            peer=peer.terminal,
        )

    def began(self, effect: PrivateBegan, peer: Peer) -> None:
        self._journal.event(Event.PRIVATE, f"private: began with {peer.described}", peer=peer.terminal)
        for feed in effect.watches:
            self._watched[peer.session, feed.stream.id] = feed
        for feed in effect.shows:
            self._show(feed, peer.terminal)

    def ended(self, effect: PrivateEnded, peer: Peer) -> None:
        by = "here" if effect.mine else "there"
        text = f"private: ended {by} with {peer.described} ({effect.reason})"
        self._journal.event(Event.PRIVATE, text, peer=peer.terminal, reason=effect.reason)
        for feed in effect.watches:
            del self._watched[peer.session, feed.stream.id]
            self._tasks.spawn(self._streams.forget(self._room, peer.session, feed.stream.id))
        for feed in effect.shows:
            self._tasks.spawn(self._streams.retract(self._room, feed.stream.id))

    def _show(self, feed: PrivateFeed, to: str) -> None:
        stream = feed.stream
        mine = self._showable.streams[feed.name]
        context = StreamContext(self._meeting, self._member.session, stream.id, stream.codec)

        def broken(why: str) -> None:
            # What two of us do must not cost the meeting.
            self._journal.event(Event.PRIVATE, f"private: {why}")
            self._member.private_failed(stream.id, boottime())
            self._pump()

        async def publish() -> None:
            display = encrypted_display(self._member.session, stream.id)
            try:
                await self._streams.publish(self._room, stream.id, display)
            except (AgentError, CaptureError, MediaError) as error:
                broken(f"{error} [{error.reason}]")

        named = replace(mine, id=f"private-{feed.name}")
        try:
            self._streams.prepare(named, context, encrypted=True, on_fault=broken, to=to)
        except (CaptureError, MediaError) as error:
            asyncio.get_running_loop().call_soon(broken, f"{error} [{error.reason}]")
        else:
            self._tasks.spawn(publish())


def _list(streams: Sequence[tuple[str, str]]) -> str:
    return ", ".join(name for name, _ in streams)
