"""All meetings of the daemon, and what is asked of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dongled.agent.errors import AgentError
from dongled.agent.meetings.encrypted import EncryptedSession
from dongled.agent.meetings.meeting import Meeting


class Meetings:
    """Iterates over its meetings, encrypted and plain, in the order of the settings."""

    def __init__(self, meetings: Sequence[Meeting]) -> None:
        self._meetings = tuple(meetings)

    def __iter__(self) -> Iterator[Meeting]:
        return iter(self._meetings)

    def replace(self, meetings: Sequence[Meeting]) -> None:
        self._meetings = tuple(meetings)

    def encrypted(self) -> Iterator[tuple[Meeting, EncryptedSession]]:
        """The encrypted meetings that have a session, with it; not one that is over, or mute."""
        for meeting in self._meetings:
            session = meeting.session
            if isinstance(session, EncryptedSession) and not session.parted:
                yield meeting, session

    def judge_again(self) -> None:
        """The policy has learned something about somebody."""
        for _, session in self.encrypted():
            session.judge_again()

    def private(self, what: str, name: str, where: str, streams: Sequence[str]) -> str:
        """Invite, accept or end a private session; says with whom. Raises AgentError.

        ``name`` empty: the only peer that has invited, or has a session. ``where`` empty: wherever it is.
        """
        found = []
        for meeting, session in self.encrypted():
            if where in ("", meeting.settings.name):
                peers = session.peers_named(name) if name else session.private.partners(what)
                found += [(meeting, session, peer) for peer in peers]
        if not found:
            raise AgentError(
                "no-such-peer",
                f"Nobody here is called {name!r}." if name else "There is no invitation or private session.",
                "Take a terminal's name, subject or session from 'dongled status'.",
            )
        if len(found) > 1:
            raise AgentError(
                "ambiguous-peer", "There are several.", "Name its session, or with --meeting the meeting."
            )
        ((meeting, session, peer),) = found
        match what:
            case "invite":
                session.private.invite(peer, streams)
            case "accept":
                session.private.accept(peer, streams)
            case "end":
                session.private.end(peer)
            case _:
                raise AgentError("bad-command", f"{what!r} is no command.", "Use invite, accept or end.")
        return f"{meeting.settings.name}: {what} {peer.described}"

    def expel(self, name: str, reason: str) -> list[str]:
        """Have every meeting that this peer is in expel it; says from where, and whom. Raises AgentError."""
        expelled = []
        for meeting, session in self.encrypted():
            found = session.peers_named(name)
            if len({peer.terminal for peer in found}) > 1:
                raise AgentError(
                    "ambiguous-peer", f"Several terminals are called {name!r}.", "Name its urn:uuid."
                )
            for peer in found[:1]:
                session.expel(peer, reason)
                expelled.append(f"{meeting.settings.name}: {peer.described}")
        if not expelled:
            raise AgentError(
                "no-such-peer",
                f"Nobody here is called {name!r}.",
                "Take a terminal's name, subject or session from 'dongled status'.",
            )
        return expelled
