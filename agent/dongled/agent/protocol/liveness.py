"""Nonces that I issued and that nobody has let grow old."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from dongled.agent.protocol import limits
from dongled.agent.protocol.refusal import Refusal

# Beacons of the last 25 s, and four welcomes for each peer.
_KEPT = 8 + 4 * limits.PEERS


class Nonces:
    """Issued nonces with their time (CLOCK_BOOTTIME, s), each for everybody or for one session."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._issued: OrderedDict[bytes, tuple[float, bytes | None]] = OrderedDict()

    def issue(self, now: float, session: bytes | None = None) -> bytes:
        """A fresh 16-byte nonce, for ``session`` or, in a beacon, for everybody."""
        nonce = self._random(limits.NONCE)
        self._issued[nonce] = (now, session)
        while len(self._issued) > _KEPT or now - next(iter(self._issued.values()))[0] > limits.LIVE:
            self._issued.popitem(last=False)
        return nonce

    def issued_at(self, nonce: bytes, session: bytes, now: float) -> float:
        """When I issued ``nonce``, if it is for ``session`` and no older than 25 s. Raises Refusal."""
        issued, owner = self._issued.get(nonce, (0.0, b""))
        if owner not in (None, session):
            raise Refusal("nonce-not-outstanding", "an echo of a nonce that was not issued to it")
        if now - issued > limits.LIVE:
            raise Refusal("nonce-not-outstanding", f"an echo of a nonce that is {now - issued:.0f} s old")
        return issued
