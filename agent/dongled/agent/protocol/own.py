"""My own side: the epoch's keys, the announcement that certifies them, and what they sign."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dongled.agent.errors import AgentError
from dongled.agent.protocol import cose
from dongled.agent.protocol.api import Stream
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.messages import Announce
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.sealing import XWingKey


@dataclass(frozen=True, slots=True)
class OwnEpoch:
    """One round of my session: certified once the token has signed ``digest``, the announcement's hash."""

    announce: Announce
    chain: tuple[bytes, ...]
    protected: bytes
    digest: bytes
    party: Party
    signing: Ed25519PrivateKey = field(repr=False)
    sealing: XWingKey = field(repr=False)

    @property
    def suites(self) -> tuple[int, ...]:
        return self.announce.suites

    def certified(self, signature: bytes) -> bytes:
        """The announcement as it goes on the bus. ``signature`` is r || s, 64 bytes."""
        return cose.envelope("announce", self.protected, self.announce.encode(), signature)

    def context(self, kind: str, receiver: Party | None = None, request: bytes = b"") -> bytes:
        """SHA-256(ctx) of a message that I send."""
        return context(kind, self.announce.meeting, self.party, self.suites, receiver, request)

    def sign(self, kind: str, payload: bytes, ctx: bytes) -> tuple[bytes, bytes]:
        """Sign with the epoch key; returns the message and its hash."""
        protected = cose.epoch_header(self.digest)
        tbs = cose.structure(kind, protected, payload, ctx)
        message = cose.envelope(kind, protected, payload, self.signing.sign(tbs))
        return message, hashlib.sha256(tbs).digest()


def new_epoch(
    *,
    meeting: str,
    terminal: str,
    chain: Sequence[bytes],
    data_point: bytes,
    data_chain: Sequence[bytes],
    streams: Sequence[Stream],
    suite: int,
    session: bytes,
    number: int,
    previous: bytes,
    lifetime: int,
) -> OwnEpoch:
    """Fresh S and X-Wing keys, and the announcement that awaits the token's signature.

    Raises AgentError, ``not-announceable``.
    """
    signing, sealing = Ed25519PrivateKey.generate(), XWingKey.generate()
    leaf = hashlib.sha256(chain[0]).digest()
    announce = Announce(
        meeting=meeting,
        terminal=terminal,
        leaf=leaf,
        session=session,
        epoch=number,
        previous=previous,
        data=data_point,
        data_chain=tuple(data_chain),
        xwing=sealing.public,
        signing=signing.public_key().public_bytes_raw(),
        streams=tuple(streams),
        suites=(suite,),
        lifetime=lifetime,
    )
    payload, protected = announce.encode(), cose.token_header(chain)
    try:
        Announce.parse(cose.parse(cose.envelope("announce", protected, payload, bytes(64))).payload)
    except Refusal as refusal:
        raise AgentError(
            "not-announceable",
            f"every other terminal would refuse this announcement ({refusal})",
            "see the limits in docs/protocol.md: names, streams, certificates and their number",
        ) from None
    ctx = context("announce", meeting, Party(leaf, session, number), announce.suites)
    digest = hashlib.sha256(cose.structure("announce", protected, payload, ctx)).digest()
    return OwnEpoch(
        announce, tuple(chain), protected, digest, Party(leaf, session, number, digest), signing, sealing
    )
