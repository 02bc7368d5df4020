"""The roster's hash: what two terminals compare to see whether the bus shows them the same meeting."""

from __future__ import annotations

import hashlib

from dongled.agent.protocol import cbor
from dongled.agent.protocol.state import State


def roster_hash(state: State, now: float) -> bytes:
    """SHA-256 over the sorted pairs (session, leaf hash) of all who are live, me among them."""
    live = [[remote.session, remote.peer.leaf] for remote in state.remotes.values() if remote.live(now)]
    live.append([state.session, state.me.party.leaf])
    return hashlib.sha256(cbor.encode(sorted(live))).digest()
