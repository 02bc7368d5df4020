"""OCSP answers in a request whose sender's announcement waits for just that (docs/protocol.md, Evidence)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dongled.agent.protocol import cose
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.introductions import claimed
from dongled.agent.protocol.messages import Announce, Request, Sealed
from dongled.agent.protocol.state import State


def learn_staples(state: State, undecided: Iterable[bytes], request: Signed, now: float) -> bool:
    """Show the policy what ``request`` brings, if one of the ``undecided`` announcements is its sender's.

    That announcement is a claim. So nothing comes of this but answers that their responder signed, about
    certificates that the policy's own roots stand for; whoever brought them:

    1. read only what is for me;
    2. and was signed by the epoch key that the announcement names: nobody else spends my time;
    3. show the policy the answers, together with the chains that they are about.

    Returns whether there was something to learn. Raises NotForMe, Refusal or PolicyRefused.
    """
    sender = _sender(undecided, request.announcement)
    if sender is None:
        return False
    announcement, announce, party = sender
    # 1.
    outer = Sealed.parse("request", request.payload)
    own = state.addressed(outer.to, now)
    # 2.
    ctx = context("request", state.meeting, party, announce.suites, own.party)
    request.verify_eddsa(Ed25519PublicKey.from_public_bytes(announce.signing), ctx)
    # 3.
    inner = Request.parse(own.sealing.open(outer.sealed, ctx))
    state.policy.staple([announcement.chain, announce.data_chain], inner.evidence.ocsp)
    return bool(inner.evidence.ocsp)


def _sender(undecided: Iterable[bytes], digest: bytes) -> tuple[Signed, Announce, Party] | None:
    for message in undecided:
        announcement = cose.parse(message)
        announce = Announce.parse(announcement.payload)
        party = claimed(announcement, announce)
        if party.announcement == digest:
            return announcement, announce, party
    return None
