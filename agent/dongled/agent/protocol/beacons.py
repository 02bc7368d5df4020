"""Presence: one token-signed beacon in seven seconds, however many listen (docs/protocol.md, Liveness)."""

from __future__ import annotations

import hashlib

from dongled.agent.protocol import cose, limits
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.messages import Presence
from dongled.agent.protocol.private import Private
from dongled.agent.protocol.publisher import Publisher
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote
from dongled.agent.protocol.roster import roster_hash
from dongled.agent.protocol.state import State, UnknownSender


class Beacons:
    """Times are CLOCK_BOOTTIME, seconds."""

    def __init__(self, state: State, publisher: Publisher, private: Private) -> None:
        self._state = state
        self._publisher = publisher
        self._private = private
        self.counter = 0
        self._next_at = float("inf")
        self._signing = False

    def start(self, now: float) -> None:
        """The first one soon after the announcement: it echoes the welcomes."""
        self._next_at = now + limits.FIRST_BEACON

    def stop(self) -> None:
        self._next_at = float("inf")

    def next_tick(self) -> float:
        return self._next_at

    def tick(self, now: float) -> None:
        if now < self._next_at:
            return
        # Up to half a second early, so that terminals which started together drift apart.
        jitter = int.from_bytes(self._state.random(2)) / 131_072
        self._next_at = now + limits.BEACON - jitter
        if not self._signing:
            self._send(now)

    def _send(self, now: float) -> None:
        me, state = self._state.me, self._state
        self.counter += 1
        payload = Presence(
            leaf=me.party.leaf,
            session=me.party.session,
            epoch=me.party.epoch,
            counter=self.counter,
            nonce=state.nonces.issue(now),
            echo=tuple(
                (remote.session, remote.nonce)
                for remote in state.remotes.values()
                if remote.nonce and now - remote.nonce_at < limits.LIVE
            ),
            roster=roster_hash(state, now),
            streams=(*self._publisher.positions(), *self._private.positions()),
        ).encode()
        # Everybody holds the chain from the announcement: the leaf is enough.
        protected = cose.token_header(me.chain[:1])
        tbs = cose.structure("presence", protected, payload, me.context("presence"))

        def done(signature: bytes, now: float) -> None:
            self._signing = False
            state.broadcast("presence", cose.envelope("presence", protected, payload, signature))

        def failed(reason: str, now: float) -> None:
            self._signing = False
            self._next_at = min(self._next_at, now + limits.TOKEN_AGAIN)

        self._signing = True
        state.sign("presence", hashlib.sha256(tbs).digest(), done, failed)

    def heard(self, signed: Signed, source: str, now: float, ghosts: dict[bytes, Remote]) -> Remote:
        """Judge a beacon. Each step prevents one thing:

        1. my own beacon coming back as another's life;
        2. a beacon of a terminal, session, epoch or certificate other than the announced one;
        3. anybody but the holder of the identity key prolonging its life;
        4. an earlier beacon of it, replayed;
        5. life proven by an old or foreign nonce.

        Returns whose it is. ``ghosts`` are sessions that a newer one superseded. Raises Refusal.
        """
        presence = Presence.parse(signed.payload)
        # 1.
        if presence.session == self._state.session:
            raise Refusal("reflected", "a beacon of my own came back")
        # 2.
        remote = self._state.remotes.get(presence.session) or ghosts.get(presence.session)
        if remote is None:
            self._state.check_known_bad(presence.session)
        if remote is None or presence.epoch > remote.epoch.party.epoch:
            raise UnknownSender(presence.session, "a beacon without an announcement")
        # One that the token signed while the next announcement waited for it is under way, for 10 s.
        epoch = remote.epoch_numbered(presence.epoch, now)
        if epoch is None:
            raise Refusal("stale-epoch", f"epoch {presence.epoch}, {remote.epoch.party.epoch} is known")
        leaf = hashlib.sha256(signed.chain[0]).digest()
        if len(signed.chain) != 1 or not presence.leaf == leaf == remote.peer.leaf:
            raise Refusal("identity-mismatch", "a beacon under another certificate")
        # 3.
        signed.verify_es256(remote.identity.public_key, epoch.context("presence"))
        # 4.
        if presence.counter <= remote.counter:
            raise Refusal("presence-replayed", f"number {presence.counter}, {remote.counter} was seen")
        remote.counter = presence.counter
        remote.earlier_beacon, remote.beacon = remote.beacon, presence
        remote.beacon_at, remote.source = now, source
        remote.nonce, remote.nonce_at = presence.nonce, now
        # 5.
        echo = dict(presence.echo).get(self._state.session)
        if echo is None:
            # It may have been signed before we met.
            if now - remote.knew_me_at >= limits.BEACON_LAG:
                remote.knows_me = remote.has_nonce = False
        else:
            issued = self._state.nonces.issued_at(echo, remote.session, now)
            # Only who has my present announcement takes a nonce from what I sent since.
            remote.shows_that_it_knows_me(now, announced=issued >= self._state.adopted_at)
            remote.has_nonce = True
            remote.prove_by_beacon(issued)
        return remote

    def compare_rosters(self, remote: Remote, now: float) -> None:
        """Raise one alarm when a live peer's roster stays another than mine."""
        if remote.beacon is None or remote.beacon.roster == roster_hash(self._state, now):
            remote.split_since, remote.split_alarmed = None, False
            return
        if remote.split_since is None:
            remote.split_since = now
        if now - remote.split_since >= limits.ROSTER_SPLIT and not remote.split_alarmed:
            remote.split_alarmed = True
            self._state.alarm("roster-split", f"{remote.peer.subject} sees other terminals than I do")
