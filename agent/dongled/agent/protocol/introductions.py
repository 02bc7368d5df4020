"""How terminals come to know each other: announcements, welcomes, and messages that came too early.

docs/protocol.md, Introductions.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from dongled.agent.policy.api import CheckedCertificate, PolicyRefused, PolicyUndecided
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Peer, PeerChanged, PeerJoined, TurnedAway
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.messages import Announce, Welcome
from dongled.agent.protocol.own import OwnEpoch
from dongled.agent.protocol.quota import Quota
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote, authorise, verify_announcement
from dongled.agent.protocol.state import State

Admitted = Callable[[Remote, bool, float], None]


class Introductions:
    """Times are CLOCK_BOOTTIME, seconds."""

    def __init__(self, state: State, admitted: Admitted, evict: Callable[[Remote, str, float], None]) -> None:
        self._state = state
        self._admitted = admitted
        self._evict = evict
        self._message = b""
        self._announced_at = float("-inf")
        self._announce_at: float | None = None
        self._searching = False
        self._gap = limits.ANNOUNCE_AGAIN
        self._retry: tuple[float, OwnEpoch, Callable[[float], None]] | None = None
        self._doubled: set[str] = set()
        self._welcomes = Quota(limits.WELCOME_BURST, limits.WELCOME_RATE)

    # --- my own announcement

    def announce(self, epoch: OwnEpoch, certified: Callable[[float], None], now: float) -> None:
        """Have the token certify ``epoch``; announce it when it has."""

        def done(signature: bytes, now: float) -> None:
            first = self._state.own is None
            self._message = epoch.certified(signature)
            self._state.adopt(epoch, now)
            self._broadcast(now)
            if first:
                for remote in self._state.remotes.values():
                    self._welcome(remote, now)
            certified(now)

        def failed(reason: str, now: float) -> None:
            self._retry = (now + limits.TOKEN_AGAIN, epoch, certified)

        self._retry = None
        self._state.sign("announce", epoch.digest, done, failed)

    def introduce(self, now: float) -> None:
        """Somebody does not know me: announce again, at most once in 250 ms."""
        self._schedule(self._announced_at + limits.INTRODUCE_AGAIN, now)

    def search(self, now: float) -> None:
        """I miss an announcement or a nonce; mine makes them send it. Ever less often, while in vain."""
        self._searching = True
        self._schedule(self._announced_at + self._gap, now)

    def _schedule(self, at: float, now: float) -> None:
        if self._state.own is None:
            return
        self._announce_at = at if self._announce_at is None else min(at, self._announce_at)
        self.tick(now)

    def next_tick(self) -> float:
        times = [self._retry[0]] if self._retry else []
        if self._announce_at is not None:
            times.append(self._announce_at)
        return min(times, default=float("inf"))

    def tick(self, now: float) -> None:
        if self._retry is not None and now >= self._retry[0]:
            self.announce(self._retry[1], self._retry[2], now)
        if self._announce_at is None or now < self._announce_at:
            return
        self._announce_at = None
        if self._searching or not all(remote.knows_me for remote in self._state.remotes.values()):
            if self._searching:
                self._gap = min(2 * self._gap, limits.ANNOUNCE_MOST)
            self._broadcast(now)

    def _broadcast(self, now: float) -> None:
        self._announced_at, self._searching = now, False
        self._state.broadcast("announce", self._message)

    # --- theirs

    def ban(self, terminal: str) -> None:
        """Two live sessions are this terminal's: neither is believed."""
        self._doubled.add(terminal)

    def heard(self, signed: Signed, source: str, now: float) -> Remote:
        """Judge an announcement; returns whose it is. Raises Refusal or PolicyRefused."""
        announce = Announce.parse(signed.payload)
        self._acceptable(announce)
        known = self._state.remotes.get(announce.session)
        if known is not None and announce.epoch <= known.epoch.party.epoch:
            self._heard_again(signed, announce, known, now)
            return known
        try:
            identity, peer, epoch = verify_announcement(
                signed, announce, self._state.meeting, self._state.policy
            )
        except PolicyUndecided:
            raise
        except PolicyRefused as error:
            self._turn_away(signed, announce, source, error)
            if known is not None:
                self.judge_again(known, now)
            raise
        try:
            self._state.bans.check(peer.terminal, now)
        except Refusal as error:
            self._turn_away(signed, announce, source, error)
            raise
        may_publish = self._may_publish(identity, peer, source)
        if known is None:
            seen = self._state.first_sight(peer.session, now)
            remote = Remote(peer, identity, signed.chain, epoch, source, seen, now, epoch_at=now)
            self._make_room(now)
            self._state.remotes[peer.session] = remote
            self._state.effects.append(PeerJoined(peer))
        else:
            remote = known
            self._follows(remote, announce)
            remote.next_epoch(peer, identity, epoch, now)
            remote.chain = signed.chain
            self._state.effects.append(PeerChanged(peer))
            self._gap = limits.ANNOUNCE_AGAIN
            self._admitted(remote, may_publish, now)
            return remote
        self._gap = limits.ANNOUNCE_AGAIN
        # Welcome first: to its answer, my announcement alone would leave it without a nonce.
        self._admitted(remote, may_publish, now)
        self.introduce(now)
        self._welcome(remote, now)
        return remote

    def judge_again(self, remote: Remote, now: float, *, patient: bool = True) -> None:
        """Ask the policy about a terminal as it is now, and put it out when that refuses it.

        ``patient``: what the policy cannot tell yet is asked again before the round ends.
        """
        try:
            remote.identity = authorise(
                self._state.policy, remote.chain, remote.epoch.announce, remote.peer.leaf
            )
            may_publish = self._may_publish(remote.identity, remote.peer, remote.source)
        except (Refusal, PolicyRefused) as error:
            if patient and isinstance(error, PolicyUndecided):
                return
            self._state.refused(error, remote.source, remote.session)
            self._evict(remote, "refused", now)
        else:
            self._admitted(remote, may_publish, now)

    def _turn_away(
        self, signed: Signed, announce: Announce, source: str, error: Refusal | PolicyRefused
    ) -> None:
        self._state.turn_away(announce.session, claimed(signed, announce).announcement, error.reason)
        detail = error.detail if isinstance(error, Refusal) else str(error)
        self._state.effects.append(TurnedAway(announce.terminal, source, error.reason, detail))

    def _may_publish(self, identity: CheckedCertificate, peer: Peer, source: str) -> bool:
        if not peer.streams:
            return False
        try:
            self._state.policy.may_publish(identity)
        except PolicyRefused as error:
            self._state.refused(error, source, peer.session)
            return False
        return True

    def welcomed(self, signed: Signed, now: float) -> Remote:
        """Judge a welcome: a nonce for me from a terminal that I know. Raises Refusal."""
        welcome = Welcome.parse(signed.payload)
        own = self._state.addressed(welcome.to, now)
        remote, epoch = self._state.sender(signed.announcement, now)
        signed.verify_eddsa(epoch.signing, epoch.context("welcome", own.party))
        remote.shows_that_it_knows_me(now, announced=own is self._state.own)
        remote.nonce, remote.nonce_at = welcome.nonce, now
        return remote

    def _acceptable(self, announce: Announce) -> None:
        if announce.session == self._state.session:
            raise Refusal("reflected", "my own announcement came back")
        if self._state.own is not None and announce.terminal == self._state.own.announce.terminal:
            raise Refusal("own-certificate", "another session announces itself as this terminal")
        self._state.check_ended(announce.session)
        if announce.terminal in self._doubled:
            raise Refusal("doubled-certificate", "two sessions of this terminal were live")

    def _heard_again(self, signed: Signed, announce: Announce, known: Remote, now: float) -> None:
        if claimed(signed, announce).announcement != known.epoch.party.announcement:
            raise Refusal("stale-epoch", f"epoch {announce.epoch}, {known.epoch.party.epoch} is known")
        # It lacks my announcement or a nonce.
        if not known.knows_me:
            self.introduce(now)
        # Who has a nonce announces itself again for a newcomer's sake: all would welcome all.
        welcomed = known.welcomed == known.epoch.party.announcement
        served = known.has_nonce and known.live(now) and welcomed
        if not served and now - known.welcomed_at >= limits.WELCOME_AGAIN:
            self._welcome(known, now)

    def _follows(self, remote: Remote, announce: Announce) -> None:
        held = remote.epoch
        if announce.leaf != held.party.leaf:
            raise Refusal("identity-mismatch", "a session changed its certificate")
        if announce.epoch == held.party.epoch + 1 and announce.previous != held.party.announcement:
            raise Refusal("epoch-chain", "the announcement does not follow the one that is held")

    def _make_room(self, now: float) -> None:
        if len(self._state.remotes) < limits.PEERS - 1:
            return
        unproven = [remote for remote in self._state.remotes.values() if not remote.live(now)]
        if not unproven:
            raise Refusal("roster-full", f"{limits.PEERS} terminals are live")
        self._evict(min(unproven, key=lambda remote: remote.admitted_at), "evicted", now)

    def _welcome(self, remote: Remote, now: float) -> None:
        # Who gets none, because its terminal announces ever new sessions, has a nonce from my next beacon.
        if self._state.own is None or not self._welcomes.take(remote.peer.terminal, now):
            return
        remote.welcomed_at, remote.welcomed = now, remote.epoch.party.announcement
        me = self._state.me
        payload = Welcome(remote.epoch.party.announcement, self._state.nonces.issue(now, remote.session))
        message, _ = me.sign("welcome", payload.encode(), me.context("welcome", remote.epoch.party))
        self._state.broadcast("welcome", message)


def claimed(signed: Signed, announce: Announce) -> Party:
    """Who this announcement claims to be of, with the hash that it claims to have."""
    party = Party(announce.leaf, announce.session, announce.epoch)
    ctx = context("announce", announce.meeting, party, announce.suites)
    return replace(party, announcement=hashlib.sha256(signed.structure(ctx)).digest())


class EarlyMessages:
    """Messages under an announcement that is still to come, kept for seconds and in small numbers."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, list[tuple[float, str, bytes]]] = OrderedDict()

    def hold(self, key: bytes, source: str, message: bytes, now: float) -> bool:
        """Keep it; False when there is no room."""
        if key not in self._held and len(self._held) >= limits.HELD_SENDERS:
            return False
        kept = self._held.setdefault(key, [])
        if len(kept) >= limits.HELD_EACH:
            return False
        kept.append((now, source, message))
        return True

    def take(self, key: bytes, now: float) -> list[tuple[str, bytes]]:
        """What was kept for this announcement or session, oldest first."""
        kept = self._held.pop(key, [])
        return [(source, message) for at, source, message in kept if now - at <= limits.HELD_SECONDS]

    def expired(self, now: float) -> list[str]:
        """Drop what nothing came for in time; returns the source of each message."""
        old = [key for key, kept in self._held.items() if now - kept[-1][0] > limits.HELD_SECONDS]
        return [source for key in old for _, source, _ in self._held.pop(key)]

    def forget(self) -> None:
        self._held.clear()
