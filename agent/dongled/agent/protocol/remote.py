"""The others: verified announcements, and what is known of each terminal's life."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dongled.agent.policy.api import CheckedCertificate, Policy
from dongled.agent.protocol import limits, sealing
from dongled.agent.protocol.api import Peer
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.messages import Announce, Presence
from dongled.agent.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True)
class RemoteEpoch:
    """A verified announcement and the keys that it certifies."""

    announce: Announce
    party: Party
    signing: Ed25519PublicKey
    sealing: hpke.MLKEM768X25519PublicKey
    data: ec.EllipticCurvePublicKey

    @property
    def suites(self) -> tuple[int, ...]:
        return self.announce.suites

    def context(self, kind: str, receiver: Party | None = None, request: bytes = b"") -> bytes:
        """SHA-256(ctx) of a message that this terminal sends."""
        return context(kind, self.announce.meeting, self.party, self.suites, receiver, request)


@dataclass(slots=True, eq=False)
class Remote:
    """A terminal in the roster. Times are CLOCK_BOOTTIME, seconds."""

    peer: Peer
    identity: CheckedCertificate
    chain: tuple[bytes, ...]
    epoch: RemoteEpoch
    source: str
    first_seen: float
    admitted_at: float
    previous: RemoteEpoch | None = None
    previous_until: float = 0.0
    epoch_at: float = 0.0
    live_until: float = 0.0
    knows_me: bool = False
    knew_me_at: float = float("-inf")
    has_nonce: bool = False
    """It has echoed a nonce of mine, the last time that it could."""
    nonce: bytes = b""
    nonce_at: float = 0.0
    counter: int = -1
    requests: dict[int, int] = field(default_factory=dict)
    """By epoch, the counter of its last request."""
    beacon: Presence | None = None
    beacon_at: float = 0.0
    earlier_beacon: Presence | None = None
    welcomed_at: float = field(default=float("-inf"))
    welcomed: bytes = b""
    """Hash of its announcement that I welcomed last."""
    split_since: float | None = None
    split_alarmed: bool = False

    @property
    def session(self) -> bytes:
        return self.peer.session

    def live(self, now: float) -> bool:
        return now < self.live_until

    def shows_that_it_knows_me(self, now: float, *, announced: bool = True) -> None:
        """It sent what takes an announcement of mine; ``announced``: my present one."""
        self.knew_me_at, self.knows_me = now, self.knows_me or announced

    def passed(self, now: float) -> dict[str, tuple[int, int]]:
        """By stream, the (KID, CTR) that should have been played: two seconds after a beacon, its own."""
        due = self.beacon if now - self.beacon_at > limits.STALE else self.earlier_beacon
        return {position.stream: (position.kid, position.ctr) for position in due.streams} if due else {}

    def prove_by_beacon(self, issued: float) -> None:
        """It echoed, under its token's signature, a nonce that I issued then."""
        self.live_until = max(self.live_until, issued + limits.LIVE)

    def prove_by_message(self, issued: float, now: float) -> None:
        """Its request or grant did: it lives by that for its first 25 s, and not on. Raises Refusal.

        They need no token, so one sent at the end of that time must not vouch for what comes after.
        """
        until = min(issued, self.first_seen) + limits.LIVE
        if now < until:
            self.live_until = max(self.live_until, until)
        if not self.live(now):
            raise Refusal("not-live", f"{self.peer.subject} has sent no beacon that echoes a fresh nonce")

    def next_epoch(self, peer: Peer, identity: CheckedCertificate, epoch: RemoteEpoch, now: float) -> None:
        """A new round of it. The epoch before counts for what is under way."""
        self.previous, self.previous_until = self.epoch, now + limits.GRACE
        # Counters of its own, so that a request forged with a stolen key ends with that key.
        self.requests = {n: last for n, last in self.requests.items() if n == self.epoch.party.epoch}
        self.peer, self.identity, self.epoch = peer, identity, epoch
        self.epoch_at = now

    def epoch_of(self, announcement: bytes, now: float) -> RemoteEpoch | None:
        """The epoch whose announcement has this hash, while it counts."""
        return next((e for e in self._epochs(now) if e.party.announcement == announcement), None)

    def epoch_numbered(self, number: int, now: float) -> RemoteEpoch | None:
        return next((e for e in self._epochs(now) if e.party.epoch == number), None)

    def _epochs(self, now: float) -> list[RemoteEpoch]:
        if self.previous is None or now >= self.previous_until:
            return [self.epoch]
        return [self.epoch, self.previous]


def verify_announcement(
    signed: Signed, announce: Announce, meeting: str, policy: Policy
) -> tuple[CheckedCertificate, Peer, RemoteEpoch]:
    """Check an announcement. Each step prevents one thing:

    1. an announcement of another meeting being replayed into this one;
    2. a certificate that the roots, the time or its own contents do not carry;
    3. a payload that names another terminal or certificate than the one that signed;
    4. anybody but the holder of the identity key announcing;
    5. keys that are no keys, and a data key that passes for a certified one.

    It proves no freshness: that is what nonces are for. Raises Refusal or PolicyRefused.
    """
    # 1.
    if announce.meeting != meeting:
        raise Refusal("other-meeting", announce.meeting)
    # 2.
    identity = policy.check_identity(signed.chain)
    # 3.
    leaf = hashlib.sha256(signed.chain[0]).digest()
    if announce.leaf != leaf or identity.leaf != leaf or announce.terminal != identity.terminal:
        raise Refusal("identity-mismatch", f"{announce.terminal} announced by {identity.terminal}")
    # 4.
    ctx = context("announce", meeting, Party(leaf, announce.session, announce.epoch), announce.suites)
    digest = signed.verify_es256(identity.public_key, ctx)
    # 5.
    data = sealing.p256_public(announce.data)
    identity = with_data_key(policy, identity, announce)
    epoch = RemoteEpoch(
        announce,
        Party(leaf, announce.session, announce.epoch, digest),
        Ed25519PublicKey.from_public_bytes(announce.signing),
        sealing.xwing_public(announce.xwing),
        data,
    )
    peer = Peer(
        session=announce.session,
        terminal=identity.terminal,
        subject=identity.subject,
        leaf=leaf,
        roles=identity.roles,
        assurance=identity.assurance,
        streams=announce.streams,
    )
    return identity, peer, epoch


def with_data_key(policy: Policy, identity: CheckedCertificate, announce: Announce) -> CheckedCertificate:
    """``identity`` with the lesser assurance of its two keys. Raises PolicyRefused."""
    data = policy.check_data_key(identity, announce.data_chain, announce.data)
    if identity.assurance == data == "hardware":
        return identity
    return replace(identity, assurance="software")


def authorise(policy: Policy, chain: Sequence[bytes], announce: Announce, leaf: bytes) -> CheckedCertificate:
    """Check a terminal's certificates again, as they are when a key is about to be sealed to it."""
    identity = policy.check_identity(chain)
    if identity.leaf != leaf:
        raise Refusal("identity-mismatch", "the certificate has changed")
    return with_data_key(policy, identity, announce)
