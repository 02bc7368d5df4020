"""Messages that should not be: made by hand, with keys of an insider or of nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from agent.protocol.bus import Bus, Terminal, kind_of
from dongled.agent.protocol import cbor, cose
from dongled.agent.protocol.context import Party
from dongled.agent.protocol.own import OwnEpoch


def epoch_of(terminal: Terminal) -> OwnEpoch:
    """A terminal's own keys: what an insider has of itself."""
    return terminal.member._state.me


def party_of(terminal: Terminal) -> Party:
    return epoch_of(terminal).party


def last(bus: Bus, sender: Terminal, kind: str, to: Terminal | None = None) -> bytes:
    """The last message of a type that a terminal sent (to one receiver)."""
    return next(
        m
        for _, who, m in reversed(bus.log)
        if who is sender
        and kind_of(m) == kind
        and (to is None or cbor.decode(cbor.decode(m)[2][2])["to"] == party_of(to).announcement)
    )


def edit(message: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The message with its payload changed and its signature left."""
    version, kind, (protected, unprotected, payload, signature) = cbor.decode(message)
    fields = cbor.decode(payload)
    change(fields)
    return cbor.encode([version, kind, [protected, unprotected, cbor.encode(fields), signature]])


def resign(message: bytes, insider: Terminal, ctx: bytes, *, claim: bytes | None = None) -> bytes:
    """The payload signed by an insider's epoch key, under its own announcement's hash or a claimed one."""
    _, kind, (_, _, payload, _) = cbor.decode(message)
    return sign(kind, payload, insider, ctx, claim=claim)


def sign(kind: str, payload: bytes, insider: Terminal, ctx: bytes, *, claim: bytes | None = None) -> bytes:
    protected = cose.epoch_header(claim or party_of(insider).announcement)
    tbs = cose.structure(kind, protected, payload, ctx)
    return cose.envelope(kind, protected, payload, epoch_of(insider).signing.sign(tbs))


def token_sign(kind: str, payload: bytes, chain: list[bytes], insider: Terminal, ctx: bytes) -> bytes:
    """Signed by an insider's identity key, whatever the chain says."""
    protected = cose.token_header(chain)
    digest = hashlib.sha256(cose.structure(kind, protected, payload, ctx)).digest()
    return cose.envelope(kind, protected, payload, insider.token.sign(digest))
