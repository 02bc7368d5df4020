"""A whole terminal in one meeting: bytes and a time in, bytes and effects out.

No sockets, no clock, no token: see ``api.py`` for what the daemon does on its behalf.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from dongled.agent.policy.api import Policy, PolicyRefused, PolicyUndecided
from dongled.agent.protocol import cose, limits
from dongled.agent.protocol.api import (
    Effect,
    Evidence,
    FeedStatus,
    Peer,
    PeerLeft,
    PeerStatus,
    PrivateStatus,
    Stream,
)
from dongled.agent.protocol.bans import Bans
from dongled.agent.protocol.beacons import Beacons
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.expulsions import Expulsions
from dongled.agent.protocol.introductions import EarlyMessages, Introductions
from dongled.agent.protocol.messages import Leave
from dongled.agent.protocol.own import OwnEpoch, new_epoch
from dongled.agent.protocol.private import Private
from dongled.agent.protocol.publisher import Publisher
from dongled.agent.protocol.quota import Quota
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote
from dongled.agent.protocol.roster import roster_hash
from dongled.agent.protocol.rounds import Rounds
from dongled.agent.protocol.staples import learn_staples
from dongled.agent.protocol.state import Counters, NotForMe, State, UnknownSender
from dongled.agent.protocol.subscriber import Subscriber
from dongled.agent.protocol.undecided import Undecided


class Member:
    """``now`` is always CLOCK_BOOTTIME in seconds and never goes back.

    ``identity_chain`` and ``data_chain`` are DER certificates, leaf first (the latter may be empty: the key
    then counts as software); ``data_point`` is 65 bytes of uncompressed SEC1. ``want`` is asked once for
    each announced stream. ``bans`` are this meeting's, and outlive the member. Raises AgentError,
    ``not-announceable``, for what every peer would refuse.
    """

    def __init__(
        self,
        *,
        meeting: str,
        terminal: str,
        identity_chain: Sequence[bytes],
        data_point: bytes,
        data_chain: Sequence[bytes],
        streams: Sequence[Stream],
        policy: Policy,
        suite: int = 5,
        random: Callable[[int], bytes] = os.urandom,
        want: Callable[[Peer, Stream], bool],
        bans: Bans | None = None,
    ) -> None:
        self.session = random(limits.SESSION)
        self._state = State(meeting, self.session, policy, random, Bans() if bans is None else bans)

        def make(number: int, previous: bytes) -> OwnEpoch:
            return new_epoch(
                meeting=meeting,
                terminal=terminal,
                chain=identity_chain,
                data_point=data_point,
                data_chain=data_chain,
                streams=streams,
                suite=suite,
                session=self.session,
                number=number,
                previous=previous,
                lifetime=0,
            )

        self._first: OwnEpoch | None = make(1, b"")
        self._publisher = Publisher(self._state, streams, suite)
        self._subscriber = Subscriber(self._state, want)
        self._private = Private(self._state, suite, self._publisher.presented)
        self._beacons = Beacons(self._state, self._publisher, self._private)
        self._introductions = Introductions(self._state, self._admitted, self._evicted)
        self._rounds = Rounds(self._state, self._introductions, self._publisher, self._private, make)
        self._expulsions = Expulsions(self._state, identity_chain, self._remove)
        self._early = EarlyMessages()
        self._undecided = Undecided()
        self._quota = Quota()
        self._ghosts: dict[bytes, Remote] = {}
        self._superseded_at: dict[bytes, float] = {}
        self._opened: dict[tuple[bytes, str], tuple[int, int]] = {}
        self._gone = False
        self._ticked = float("-inf")

    # --- what the daemon says

    def start(self, now: float) -> None:
        """Join: the token signs the announcement, and everything follows from there."""

        def certified(now: float) -> None:
            self._publisher.start(now)
            self._beacons.start(now)
            self._rounds.start(now)

        assert self._first is not None, "a member starts once"
        first, self._first = self._first, None
        self._introductions.announce(first, certified, now)

    def leave(self, now: float) -> None:
        """Say goodbye and drop every key. The member is of no use afterwards."""
        if self._gone:
            return
        self._gone = True
        if self._state.own is not None:
            me = self._state.me
            message, _ = me.sign("leave", Leave(self._beacons.counter).encode(), me.context("leave"))
            self._state.broadcast("leave", message)
        self._subscriber.forget()
        self._publisher.forget()
        self._private.forget()
        self._beacons.stop()
        self._expulsions.forget()
        self._early.forget()
        self._state.remotes.clear()
        self._state.forget_own()

    def expel(self, session: bytes, reason: str, now: float) -> None:
        """As a moderator, expel this peer's terminal from the meeting. Raises AgentError."""
        self._expulsions.order(session, reason, now)

    def invite(self, session: bytes, streams: Sequence[tuple[str, str]], now: float) -> None:
        """Offer these streams of mine (name and codec) to this peer alone. Raises AgentError."""
        self._private.invite(session, streams, now)

    def accept(self, session: bytes, streams: Sequence[tuple[str, str]], now: float) -> None:
        """Accept this peer's invitation, and show it these streams in return. Raises AgentError."""
        self._private.accept(session, streams, now)

    def end_private(self, session: bytes, now: float) -> None:
        """End the private session with this peer, or decline it. Raises AgentError."""
        self._private.end(session, now)

    def private_failed(self, stream: str, now: float) -> None:
        """My private stream of this id cannot be shown."""
        self._private.failed(stream, now)

    def receive(self, source: str, message: bytes, now: float) -> None:
        """Bytes from the bus; ``source`` is the bus's own word for who sent them. Never raises."""
        if self._gone:
            return
        if not self._quota.take(source, now):
            self._state.refused(Refusal("quota", "too many messages"), source)
            return
        self._receive(source, message, now)

    def source_left(self, source: str, now: float) -> None:
        """The SFU says that this sender left the bus. It is believed: that only ever removes."""
        for remote in [r for r in self._state.remotes.values() if r.source == source]:
            self._remove(remote, "sfu", now)

    def signed(self, operation: int, signature: bytes, now: float) -> None:
        """The identity key's r || s, 64 bytes, for ``SignWanted.operation``."""
        self._answered(operation, signature, now)

    def derived(self, operation: int, shared: bytes, now: float) -> None:
        """The data key's 32-byte shared secret, for ``DeriveWanted.operation``."""
        self._answered(operation, shared, now)

    def evidence(self, operation: int, evidence: Evidence, now: float) -> None:
        """What there is to show, for ``EvidenceWanted.operation``."""
        self._subscriber.gathered(operation, evidence, now)

    def token_failed(self, operation: int, reason: str, now: float) -> None:
        """The token did not do it. What is still needed is asked for again by and by."""
        self._state.token_failed(operation, reason, now)

    def stream_position(self, stream: str, kid: int, ctr: int) -> None:
        """How far my stream was sealed."""
        self._publisher.sealed(stream, kid, ctr)
        self._private.sealed(stream, kid, ctr)

    def opened_position(self, session: bytes, stream: str, kid: int, ctr: int) -> None:
        """How far a peer's stream was opened: what STALE is judged by."""
        self._opened[(session, stream)] = (kid, ctr)

    def tick(self, now: float) -> None:
        """Do what is due. Call at ``next_tick()``, or whenever it is cheap."""
        if self._gone:
            return
        self._ticked = now
        self._state.forget_old_epochs(now)
        for remote in list(self._state.remotes.values()):
            if now >= self._gone_at(remote):
                self._remove(remote, "silent", now)
        for session in [s for s, at in self._superseded_at.items() if now - at > limits.GHOST]:
            del self._ghosts[session], self._superseded_at[session]
        self._introductions.tick(now)
        self._expire_early(now)
        if now >= self._undecided.next_tick():
            self._judge_again(now)
        if self._state.own is None:
            return
        if any(
            not remote.nonce and now >= self._nonce_due(remote) for remote in self._state.remotes.values()
        ):
            self._introductions.search(now)
        self._rounds.tick(now)
        self._expulsions.tick(now)
        self._publisher.tick(now)
        self._subscriber.tick(now)
        self._private.tick(now)
        self._beacons.tick(now)

    def next_tick(self) -> float | None:
        """When ``tick`` is next of use, None for never."""
        if self._gone:
            return None
        parts = (
            self._undecided,
            self._introductions,
            self._rounds,
            self._expulsions,
            self._publisher,
            self._subscriber,
            self._private,
            self._beacons,
        )
        remotes = self._state.remotes.values()
        times = [*(part.next_tick() for part in parts), *(self._gone_at(remote) for remote in remotes)]
        times.append(self._state.next_forgetting())
        nonces = (self._nonce_due(remote) for remote in remotes if not remote.nonce)
        soonest = min([*times, *(at for at in nonces if at > self._ticked)])
        return None if soonest == float("inf") else soonest

    def take_effects(self) -> list[Effect]:
        """What is to be done, in order; each is handed out once."""
        effects, self._state.effects = self._state.effects, []
        return effects

    # --- what the daemon shows

    @property
    def key_seq(self) -> int:
        return self._publisher.key_seq

    @property
    def epoch(self) -> int:
        return self._state.own.party.epoch if self._state.own else 1

    def generation(self, stream: str) -> int | None:
        """The KID that my stream is sealed with."""
        return self._publisher.generation(stream)

    @property
    def counters(self) -> Counters:
        return self._state.counters

    def peers(self, now: float) -> list[PeerStatus]:
        """The roster, in order of appearance."""
        return [self._status(remote, now) for remote in self._state.remotes.values()]

    def private(self, now: float) -> list[PrivateStatus]:
        """Private sessions and invitations."""
        return self._private.status(self._opened, now)

    def _status(self, remote: Remote, now: float) -> PeerStatus:
        feed = self._subscriber.feeds.get(remote.session)
        holder = self._publisher.holders.get(remote.session)
        beacon = remote.beacon
        named = {position.stream: position for position in beacon.streams} if beacon else {}
        passed = remote.passed(now)
        feeds = []
        for stream in feed.streams.values() if feed else ():
            held, at = feed.held.get(stream.id) if feed else None, named.get(stream.id)
            opened = self._opened.get((remote.session, stream.id), (-1, -1))
            feeds.append(
                FeedStatus(
                    stream,
                    held.kid if held else None,
                    at.kid if at else None,
                    opened < passed.get(stream.id, (-1, -1)),
                )
            )
        return PeerStatus(
            peer=remote.peer,
            source=remote.source,
            live=remote.live(now),
            epoch=remote.epoch.party.epoch,
            granted=tuple(sorted(holder.streams)) if holder else (),
            feeds=tuple(feeds),
            refused=feed.refused if feed else None,
            beacon_age=now - remote.beacon_at if beacon else None,
            same_roster=beacon.roster == roster_hash(self._state, now)
            if beacon and self._state.own
            else None,
        )

    # --- messages

    def _receive(self, source: str, message: bytes, now: float) -> None:
        try:
            signed = cose.parse(message)
            self._state.counters.received[signed.kind] += 1
            self._dispatch(signed, source, now)
        except NotForMe:
            pass
        except UnknownSender as unknown:
            self._introductions.search(now)
            self._expire_early(now)
            if not self._early.hold(unknown.key, source, message, now):
                self._state.refused(unknown, source)
            elif signed.kind == "request":
                self._learn_staples(signed, source, now)
        except PolicyUndecided as error:
            self._state.refused(error, source, self._session_of(source))
            if signed.kind == "announce":
                self._undecided.hold(source, message, now)
        except (Refusal, PolicyRefused) as error:
            self._undecided.refused(source, message)
            self._state.refused(error, source, self._session_of(source))

    def _expire_early(self, now: float) -> None:
        for source in self._early.expired(now):
            self._state.refused(
                Refusal("unknown-sender", "its announcement did not come or is undecided"), source
            )

    def _learn_staples(self, request: Signed, source: str, now: float) -> None:
        learned = False
        try:
            learned = learn_staples(self._state, self._undecided.messages(), request, now)
        except NotForMe:
            pass
        except (Refusal, PolicyRefused) as error:
            self._state.refused(error, source)
            # Of several answers one may have held.
            learned = isinstance(error, PolicyRefused)
        if learned:
            self._judge_again(now)

    def rejudge(self, now: float) -> None:
        """The policy has learned something: judge who waits and who holds keys again, now."""
        if self._gone:
            return
        self._judge_again(now)
        for remote in list(self._state.remotes.values()):
            self._introductions.judge_again(remote, now)
        self._publisher.rejudge(now)
        self._private.rejudge(now)

    def _judge_again(self, now: float) -> None:
        for source, message in self._undecided.take():
            self._receive(source, message, now)

    def _dispatch(self, signed: Signed, source: str, now: float) -> None:
        match signed.kind:
            case "announce":
                remote = self._introductions.heard(signed, source, now)
                self._undecided.decided(source)
                self._take_early(remote, now)
            case "welcome" if self._state.own is not None:
                self._subscriber.nonce_heard(self._introductions.welcomed(signed, now), now)
            case "presence" if self._state.own is not None:
                self._presence(signed, source, now)
            case "request":
                self._publisher.request(signed, now)
                self._newer_wins(self._state.sender(signed.announcement, now)[0], now)
            case "grant":
                self._subscriber.grant(signed, now)
            case "refuse":
                self._subscriber.refuse(signed, now)
            case "rekey":
                self._subscriber.rekey(signed, now)
            case "expel" if self._state.own is not None:
                self._expulsions.heard(signed, now)
            case "private" if self._state.own is not None:
                self._private.heard(signed, now)
            case "leave":
                self._leave(signed, now)

    def _take_early(self, remote: Remote, now: float) -> None:
        for key in (remote.epoch.party.announcement, remote.session):
            for source, message in self._early.take(key, now):
                self._receive(source, message, now)

    def _presence(self, signed: Signed, source: str, now: float) -> None:
        remote = self._beacons.heard(signed, source, now, self._ghosts)
        if remote.session in self._ghosts:
            self._doubled(remote, now)
            return
        self._newer_wins(remote, now)
        if remote.beacon and self.session not in dict(remote.beacon.echo):
            self._introductions.introduce(now)
        self._beacons.compare_rosters(remote, now)
        if remote.live(now):
            self._subscriber.beacon(remote, now)
            self._private.beacon(remote, now)
        self._subscriber.nonce_heard(remote, now)

    def _leave(self, signed: Signed, now: float) -> None:
        leave = Leave.parse(signed.payload)
        remote, epoch = self._state.sender(signed.announcement, now)
        signed.verify_eddsa(epoch.signing, epoch.context("leave"))
        if leave.counter < remote.counter:
            raise Refusal("presence-replayed", "a leave from before its latest beacon")
        self._state.end(remote, "leave")
        self._remove(remote, "leave", now)

    def _answered(self, operation: int, result: bytes, now: float) -> None:
        try:
            self._state.answered(operation, result, now)
        except (Refusal, PolicyRefused) as error:
            self._state.refused(error, "")

    # --- the roster

    def _admitted(self, remote: Remote, may_publish: bool, now: float) -> None:
        self._subscriber.admitted(remote, may_publish, now)

    def _evicted(self, remote: Remote, reason: str, now: float) -> None:
        self._remove(remote, reason, now)

    def _gone_at(self, remote: Remote) -> float:
        return remote.live_until or remote.admitted_at + limits.LIVE

    def _nonce_due(self, remote: Remote) -> float:
        return remote.admitted_at + limits.ANNOUNCE_AGAIN

    def _session_of(self, source: str) -> bytes | None:
        return next((r.session for r in self._state.remotes.values() if r.source == source), None)

    def _remove(self, remote: Remote, reason: str, now: float) -> None:
        del self._state.remotes[remote.session]
        self._subscriber.removed(remote.session)
        self._publisher.removed(remote.session, now)
        self._private.removed(remote.session, reason, now)
        self._opened = {key: at for key, at in self._opened.items() if key[0] != remote.session}
        self._state.effects.append(PeerLeft(remote.session, reason))

    def _newer_wins(self, remote: Remote, now: float) -> None:
        # A restarted terminal comes back as a new session; the old one has only been silent so far.
        if not remote.live(now):
            return
        for other in list(self._state.remotes.values()):
            older = other.first_seen < remote.first_seen
            if other is not remote and other.peer.terminal == remote.peer.terminal and older:
                self._state.end(other, "superseded")
                self._remove(other, "superseded", now)
                self._ghosts[other.session] = other
                self._superseded_at[other.session] = now

    def _doubled(self, ghost: Remote, now: float) -> None:
        if now - self._superseded_at[ghost.session] < limits.LIVE or not ghost.live(now):
            raise Refusal("superseded", "a newer session of its certificate is live")
        self._introductions.ban(ghost.peer.terminal)
        for remote in [r for r in self._state.remotes.values() if r.peer.terminal == ghost.peer.terminal]:
            self._state.end(remote, "doubled-certificate")
            self._remove(remote, "doubled-certificate", now)
        del self._ghosts[ghost.session], self._superseded_at[ghost.session]
        self._state.alarm("doubled-certificate", f"{ghost.peer.subject} is live in two sessions")
