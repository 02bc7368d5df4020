"""What every signature and seal is bound to (docs/protocol.md, Context)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from dongled.agent.protocol import cbor, limits


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a message: its certificate, session, epoch and announcement.

    ``leaf`` and ``announcement`` are SHA-256 (32 bytes; empty in an announcement's own context),
    ``session`` is 16 bytes.
    """

    leaf: bytes
    session: bytes
    epoch: int
    announcement: bytes = b""


def context(
    kind: str,
    meeting: str,
    sender: Party,
    suites: Sequence[int],
    receiver: Party | None = None,
    request: bytes = b"",
) -> bytes:
    """SHA-256(ctx), 32 bytes. ``suites`` are the sender's announced SFrame suites."""
    ctx = [
        limits.VERSION,
        kind,
        meeting,
        _items(sender),
        [] if receiver is None else _items(receiver),
        request,
        list(suites),
    ]
    return hashlib.sha256(cbor.encode(ctx)).digest()


def _items(party: Party) -> list[bytes | int]:
    return [party.leaf, party.session, party.epoch, party.announcement]
