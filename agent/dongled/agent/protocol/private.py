"""Private sessions: streams that one other terminal may open, while both stay in the meeting.

Nobody else learns whom they are shown to or what they are: all is agreed by letters, and a private stream
goes by a random name. docs/protocol.md, Private sessions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused, PolicyUndecided, Presented
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import (
    Evidence,
    Judged,
    OpenWith,
    PrivateBegan,
    PrivateEnded,
    PrivateInvited,
    PrivateStatus,
    SealWith,
    StopOpening,
    StopSealing,
    Stream,
)
from dongled.agent.protocol.letters import Letters, digest_of
from dongled.agent.protocol.messages import Position
from dongled.agent.protocol.private_messages import STREAM_NAME, Accept, End, Invite, PrivateKey
from dongled.agent.protocol.private_session import ACTIVE, INVITED, INVITING, Session, Shown, Watched
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote, RemoteEpoch, authorise
from dongled.agent.protocol.state import State
from dongled.media.keyring import commit_base_key


class Private:
    """Times are CLOCK_BOOTTIME, seconds. A session is named by the peer's session id."""

    def __init__(self, state: State, suite: int, presented: Callable[[bytes], Presented | None]) -> None:
        """``presented``: what a peer showed with its latest request for my public streams."""
        self._state = state
        self._presented = presented
        self._suite = suite
        self._letters = Letters(state, self._take)
        self.heard = self._letters.heard
        self._sessions: dict[bytes, Session] = {}
        self._ended: OrderedDict[bytes, None] = OrderedDict()

    # --- what people say

    def invite(self, peer: bytes, streams: Sequence[tuple[str, str]], now: float) -> None:
        """Offer these streams of mine (name and codec) to a peer.

        Raises PolicyRefused for a peer that may not see them, and AgentError: ``not-joined``,
        ``no-such-peer``, ``not-live``, ``private-streams``, ``private-full`` or ``private-already``.
        """
        remote = self._peer(peer, now)
        self._check_names([name for name, _ in streams], least=1)
        if any(session.peer.session == peer for session in self._sessions.values()):
            raise AgentError(
                "private-already",
                "There is a private session with this terminal, or an invitation.",
                "Accept or end it first: see 'dongled status'.",
            )
        self._check_room()
        self._may_show(remote, [name for name, _ in streams])
        until = now + limits.INVITE_LIFETIME + limits.INVITE_SLACK
        session = Session(self._state.random(limits.SESSION), remote.peer, INVITING, until, inviter=True)
        self._add_shown(session, streams)
        self._sessions[session.id] = session
        self._tell(session, now)

    def accept(self, peer: bytes, streams: Sequence[tuple[str, str]], now: float) -> None:
        """Accept this peer's invitation, and show it these streams of mine in return, if any.

        Raises what ``invite`` does, and AgentError ``no-invitation``.
        """
        remote = self._peer(peer, now)
        session = next((s for s in self._of(peer) if s.state == INVITED), None)
        if session is None:
            raise AgentError("no-invitation", "It has not invited this terminal.", "See 'dongled status'.")
        names = [name for name, _ in streams]
        self._check_names(names)
        self._check_room()
        why = self._may_show(remote, names)
        self._may_watch(remote)
        self._add_shown(session, streams)
        if names:
            self._state.effects.append(Judged("granted", remote.peer, tuple(sorted(names)), "", why))
        self._begin(session)
        self._tell(session, now)

    def end(self, peer: bytes, now: float) -> None:
        """End the private session with this peer, or decline or withdraw the invitation.

        Raises AgentError ``no-private-session``.
        """
        sessions = self._of(peer)
        if not sessions:
            raise AgentError(
                "no-private-session", "There is none with this terminal.", "See 'dongled status'."
            )
        for session in sessions:
            reason = "declined" if session.state == INVITED else "ended"
            self._end(session, reason, now, say=reason)

    def failed(self, stream: str, now: float) -> None:
        """This private stream of mine cannot be shown: its session ends."""
        for session in [s for s in self._sessions.values() if stream in s.shows]:
            self._end(session, "source", now, say="ended")

    # --- what the other parts say

    def positions(self) -> tuple[Position, ...]:
        """Where my private streams are, for the beacon."""
        return tuple(
            shown.at for session in self._sessions.values() for shown in session.shows.values() if shown.at
        )

    def sealed(self, stream: str, kid: int, ctr: int) -> None:
        """The media has sealed up to this counter."""
        for session in self._sessions.values():
            shown = session.shows.get(stream)
            if shown is not None and shown.at is not None and shown.at.kid == kid and ctr > shown.at.ctr:
                shown.at = Position(stream, kid, ctr, shown.at.commit)

    def beacon(self, remote: Remote, now: float) -> None:
        """A verified beacon of a peer: does it commit to the keys that I was given?"""
        commits = {(at.stream, at.kid): at.commit for at in remote.beacon.streams} if remote.beacon else {}
        for session in self._of(remote.session):
            keys = [watched.key for watched in session.watches.values()]
            if any(commits.get((key.stream, key.kid), key.commit) != key.commit for key in keys):
                self._state.alarm("equivocation", f"{remote.peer.subject} shows different keys")
                self._end(session, "refused", now, say="refused")

    def renew(self, now: float) -> None:
        """My new epoch is certified: fresh generations, under its S."""
        for session in list(self._sessions.values()):
            if session.shows:
                self._add_shown(session, [(s.key.name, s.key.codec) for s in session.shows.values()])
                self._tell(session, now)

    def rejudge(self, now: float) -> None:
        """The policy has learned something."""
        for session in list(self._sessions.values()):
            remote = self._state.remotes.get(session.peer.session)
            try:
                if remote is not None:
                    self._check(session, remote)
            except (Refusal, PolicyRefused) as error:
                self._state.refused(error, remote.source if remote else "", session.peer.session)
                self._end(session, "policy", now, say="ended")

    def removed(self, peer: bytes, reason: str, now: float) -> None:
        """This peer left the roster."""
        for session in self._of(peer):
            self._end(session, reason, now)
        self._letters.removed(peer)

    def forget(self) -> None:
        self._sessions.clear()
        self._letters.forget()

    def next_tick(self) -> float:
        times = [self._letters.next_tick()]
        for session in self._sessions.values():
            if session.switch_at is not None:
                times.append(session.switch_at)
            times.append(session.until if session.state != ACTIVE else self._expires(session))
            times += [watched.retire_at for watched in session.watches.values()]
        return min(times)

    def tick(self, now: float) -> None:
        for session in list(self._sessions.values()):
            if session.state != ACTIVE and now >= session.until:
                self._end(session, "lapsed", now)
            elif session.state == ACTIVE and now >= self._expires(session):
                self._end(session, "silent", now, say="ended")
            elif session.switch_at is not None and now >= session.switch_at:
                self._switch(session)
            for watched in session.watches.values():
                if now >= watched.retire_at:
                    watched.retire_at = float("inf")
                    self._state.effects.append(
                        StopOpening(session.peer.session, watched.key.stream, watched.key.kid)
                    )
        self._letters.tick(now)

    def status(self, opened: dict[tuple[bytes, str], tuple[int, int]], now: float) -> list[PrivateStatus]:
        """``opened``: how far each peer's stream was opened."""
        found = []
        for session in self._sessions.values():
            remote = self._state.remotes[session.peer.session]
            passed = remote.passed(now)
            stale = [
                watched.key.name
                for stream, watched in session.watches.items()
                if opened.get((remote.session, stream), (-1, -1)) < passed.get(stream, (-1, -1))
            ]
            found.append(
                PrivateStatus(
                    peer=remote.peer,
                    state=session.state,
                    lapses_in=None if session.state == ACTIVE else max(0.0, session.until - now),
                    shows=tuple(shown.key.name for shown in session.shows.values()),
                    watches=tuple(watched.key.name for watched in session.watches.values()),
                    stale=tuple(stale) if session.state == ACTIVE else (),
                )
            )
        return found

    # --- letters

    def _take(self, kind: str, content: bytes, remote: Remote, epoch: RemoteEpoch, now: float) -> None:
        size = limits.BASE_KEY[epoch.suites[0]]
        if kind == "end":
            return self._ended_by(End.parse(content), remote, now)
        message = Invite.parse(content, size) if kind == "invite" else Accept.parse(content, size)
        try:
            if isinstance(message, Invite):
                self._invited(message, digest_of(content), remote, epoch, now)
            else:
                self._accepted(message, remote, epoch, now)
        except PolicyUndecided:
            raise
        except (Refusal, PolicyRefused):
            known = self._sessions.get(message.id)
            if known is not None and known.peer.session == remote.session:
                self._end(known, "refused", now, say="refused")
            else:
                self._say_end(remote.session, message.id, "refused", now)
            raise
        return None

    def _invited(self, invite: Invite, digest: bytes, remote: Remote, epoch: RemoteEpoch, now: float) -> None:
        """Judge an invitation, or its repetition with fresh keys. Each step prevents one thing:

        1. an invitation that is over coming back, and one in another's session;
        2. streams of somebody who may not publish;
        3. a key that is not the one committed to, and one that is past;
        4. being shown something else than what was agreed to;
        5. one terminal, or all of them, filling my status with invitations.

        Raises Refusal or PolicyRefused.
        """
        # 1.
        session = self._sessions.get(invite.id)
        if invite.id in self._ended:
            raise Refusal("private-unknown", "an invitation that is over")
        if session is not None and (session.inviter or session.peer.session != remote.session):
            raise Refusal("private-unknown", "an invitation to another terminal's private session")
        # 2.
        self._may_watch(remote)
        # 3. and 4.
        self._check_keys(session, invite.streams, remote, epoch)
        if session is None:
            # 5.
            invitations = [s.peer.session for s in self._sessions.values() if s.state == INVITED]
            if len(invitations) >= limits.PRIVATE_SESSIONS or remote.session in invitations:
                raise Refusal("private-full", f"{remote.peer.subject} invites, and there are enough already")
            until = now + invite.lifetime
            session = Session(invite.id, remote.peer, INVITED, until)
            self._sessions[invite.id] = session
            names = tuple(key.name for key in invite.streams)
            self._state.effects.append(PrivateInvited(remote.session, names, invite.lifetime))
        session.invites = [digest]
        self._hold(session, invite.streams, epoch, now)

    def _accepted(self, accept: Accept, remote: Remote, epoch: RemoteEpoch, now: float) -> None:
        """Judge an acceptance, or its repetition with fresh keys. Each step prevents one thing:

        1. accepting in the place of whom I invited, or what is over;
        2. accepting what I did not offer;
        3. showing it to somebody who may not see it any more; streams of somebody who may not publish;
        4. keys that are not those committed to, past, or of other streams than agreed.

        Raises Refusal or PolicyRefused.
        """
        # 1.
        session = self._sessions.get(accept.id)
        if session is None or not session.inviter or session.peer.session != remote.session:
            raise Refusal("private-unknown", "it accepts what it was not invited to")
        # 2.
        if accept.invite not in session.invites:
            raise Refusal("private-unknown", "it accepts another invitation than mine")
        # 3.
        names = sorted(shown.key.name for shown in session.shows.values())
        why = self._may_show(remote, names)
        if accept.streams:
            self._may_watch(remote)
        # 4.
        first = session.state == INVITING
        self._check_keys(None if first else session, accept.streams, remote, epoch)
        if first:
            self._letters.withdraw(session.posted)
        self._hold(session, accept.streams, epoch, now)
        if first:
            self._state.effects.append(Judged("granted", remote.peer, tuple(names), "", why))
            self._begin(session)
            self._switch(session)

    def _ended_by(self, end: End, remote: Remote, now: float) -> None:
        session = self._sessions.get(end.id)
        if session is not None and session.peer.session == remote.session:
            self._end(session, end.reason, now)

    def _tell(self, session: Session, now: float) -> None:
        """Send my side of it, as it is now, until it was taken."""
        self._letters.withdraw(session.posted)
        keys = tuple(shown.key for shown in session.shows.values())
        if session.inviter:
            kind, content = "invite", Invite(session.id, keys, limits.INVITE_LIFETIME).encode()
            session.invites = [*session.invites[-3:], digest_of(content)]
        else:
            kind, content = "accept", Accept(session.id, session.invites[-1], keys).encode()
        if session.state == ACTIVE:
            session.switch_at = now + limits.PRIVATE_SWITCH

        def check(now: float) -> None:
            self._check(session, self._state.remotes[session.peer.session])

        def taken(now: float) -> None:
            if session.switch_at is not None:
                self._switch(session)

        def failed(reason: str, now: float) -> None:
            self._end(session, reason, now, say="ended")

        session.posted = self._letters.post(
            session.peer.session,
            kind,
            content,
            now,
            within=limits.RENEW if session.state == ACTIVE else limits.INVITE_LIFETIME,
            check=check,
            taken=taken,
            failed=failed,
        )

    def _say_end(self, peer: bytes, session: bytes, reason: str, now: float) -> None:
        self._letters.post(peer, "end", End(session, reason).encode(), now, within=limits.RETRANSMIT)

    # --- sessions

    def _begin(self, session: Session) -> None:
        session.state = ACTIVE
        self._state.effects.append(PrivateBegan(session.peer.session, session.mine, session.theirs))
        for watched in session.watches.values():
            self._open(session, watched)

    def _end(self, session: Session, reason: str, now: float, *, say: str | None = None) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        self._ended[session.id] = None
        while len(self._ended) > limits.TOMBSTONES:
            self._ended.popitem(last=False)
        self._letters.withdraw(session.posted)
        if session.state == ACTIVE:
            self._state.effects += [StopSealing(stream) for stream in session.shows]
            self._state.effects += [StopOpening(session.peer.session, stream) for stream in session.watches]
        feeds = (session.mine, session.theirs) if session.state == ACTIVE else ((), ())
        self._state.effects.append(PrivateEnded(session.peer.session, *feeds, reason, mine=say is not None))
        if say is not None:
            self._say_end(session.peer.session, session.id, say, now)

    def _switch(self, session: Session) -> None:
        """Seal with the newest generation: the peer has it, or has had a second."""
        session.switch_at = None
        for stream, shown in session.shows.items():
            key = shown.key
            if shown.at is None or shown.at.kid != key.kid:
                shown.at = Position(stream, key.kid, 0, key.commit)
                self._state.effects.append(
                    SealWith(stream, key.kid, key.base_key, shown.signing, self._suite)
                )

    def _add_shown(self, session: Session, streams: Sequence[tuple[str, str]]) -> None:
        me = self._state.me
        known = {shown.key.name: shown for shown in session.shows.values()}
        for name, codec in streams:
            shown = known.get(name)
            stream = shown.key.stream if shown else self._state.random(16).hex()
            kid, base_key = self._state.next_kid(), self._state.random(limits.BASE_KEY[self._suite])
            commit = commit_base_key(base_key, kid, self._state.session, me.announce.signing)
            key = PrivateKey(stream, name, codec, kid, commit, base_key)
            session.shows[stream] = Shown(key, me.signing.private_bytes_raw(), shown.at if shown else None)

    def _hold(self, session: Session, keys: Sequence[PrivateKey], epoch: RemoteEpoch, now: float) -> None:
        for key in keys:
            held = session.watches.get(key.stream)
            if held is not None and held.key.kid == key.kid:
                continue
            watched = Watched(key, epoch.announce.signing)
            session.watches[key.stream] = watched
            if held is not None:
                watched.retire_at = now + limits.RETIRE
            if session.state == ACTIVE:
                self._open(session, watched)

    def _open(self, session: Session, watched: Watched) -> None:
        key = watched.key
        stream = Stream(key.stream, key.codec)
        suite = self._state.remotes[session.peer.session].epoch.suites[0]
        self._state.effects.append(
            OpenWith(session.peer.session, stream, key.kid, key.base_key, watched.verify_key, suite)
        )

    def _expires(self, session: Session) -> float:
        """When the peer's earlier S is not believed any more, and nothing newer has come from it."""
        remote = self._state.remotes[session.peer.session]
        signing = remote.epoch.announce.signing
        if any(watched.verify_key != signing for watched in session.watches.values()):
            return remote.epoch_at + limits.EXPIRE
        return float("inf")

    # --- judging

    def _peer(self, peer: bytes, now: float) -> Remote:
        if self._state.own is None:
            raise AgentError("not-joined", "This terminal has not joined yet.", "Try again in a moment.")
        remote = self._state.remotes.get(peer)
        if remote is None:
            raise AgentError("no-such-peer", "It has left the meeting.", "See 'dongled status'.")
        if not remote.live(now):
            raise AgentError("not-live", "Nothing is heard of this terminal.", "Try again in a moment.")
        return remote

    def _check_names(self, names: Sequence[str], least: int = 0) -> None:
        fit = all(STREAM_NAME.fullmatch(name) for name in names)
        if not fit or not least <= len(set(names)) == len(names) <= limits.PRIVATE_STREAMS:
            raise AgentError(
                "private-streams",
                f"A private session shows {least} to {limits.PRIVATE_STREAMS} streams, each once.",
                "Name some with --stream, or in [[meeting]] private.",
            )

    def _check_room(self) -> None:
        # Other's invitations do not count: they must not keep me from mine.
        if len([s for s in self._sessions.values() if s.state != INVITED]) >= limits.PRIVATE_SESSIONS:
            raise AgentError(
                "private-full",
                f"This terminal is in {limits.PRIVATE_SESSIONS} private sessions.",
                "End one of them.",
            )

    def _of(self, peer: bytes) -> list[Session]:
        return [session for session in self._sessions.values() if session.peer.session == peer]

    def _check(self, session: Session, remote: Remote) -> None:
        """Raises Refusal or PolicyRefused."""
        if session.shows:
            self._may_show(remote, [shown.key.name for shown in session.shows.values()])
        if session.watches:
            self._may_watch(remote)

    def _may_show(self, remote: Remote, names: Sequence[str]) -> str:
        """On what grounds. Raises Refusal or PolicyRefused."""
        identity = authorise(self._state.policy, remote.chain, remote.epoch.announce, remote.peer.leaf)
        # A letter has no room for evidence: what it takes was shown for my public streams.
        shown = self._presented(remote.session) or Presented(
            self._state.meeting, remote.session, remote.epoch.data, (), Evidence(), digest_of(remote.session)
        )
        presented = replace(shown, data_key=remote.epoch.data, streams=tuple(sorted(names)))
        grounds = [self._state.policy.may_view(identity, name, presented) for name in names]
        return "; ".join(dict.fromkeys(grounds))

    def _may_watch(self, remote: Remote) -> None:
        identity = authorise(self._state.policy, remote.chain, remote.epoch.announce, remote.peer.leaf)
        self._state.policy.may_publish(identity)

    def _check_keys(
        self, session: Session | None, keys: Sequence[PrivateKey], remote: Remote, epoch: RemoteEpoch
    ) -> None:
        public = {stream.id for stream in epoch.announce.streams}
        others = {stream for s in self._of(remote.session) if s is not session for stream in s.watches}
        if {key.stream for key in keys} & (public | others):
            raise Refusal("private-changed", "a private stream by the name of another stream")
        if session is not None and {key.same for key in keys} != {
            watched.key.same for watched in session.watches.values()
        }:
            raise Refusal("private-changed", "other streams than were agreed to")
        for key in keys:
            commit = commit_base_key(key.base_key, key.kid, remote.session, epoch.announce.signing)
            if commit != key.commit:
                raise Refusal("commitment", f"the key of {key.name} is not the one committed to")
            held = session.watches[key.stream].key if session is not None else key
            if key.kid < held.kid or (key.kid == held.kid and key.commit != held.commit):
                raise Refusal("kid-old", f"generation {key.kid}, {held.kid} is held")
