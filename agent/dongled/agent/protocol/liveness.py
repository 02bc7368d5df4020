"""Nonces that I issued and that nobody has let grow old."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from dongled.agent.protocol import limits
from dongled.agent.protocol.refusal import Refusal

# Beacons of the last 25 s, where the token fails one a second; four welcomes for each peer.
_BEACONS = 32
_WELCOMES = 4 * limits.PEERS

_Issued = OrderedDict[bytes, tuple[float, bytes | None]]


class Nonces:
    """Issued nonces with their time (CLOCK_BOOTTIME, s), each for everybody or for one session."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        # Apart: ever new newcomers must not push out what keeps the others alive.
        self._beacons: _Issued = OrderedDict()
        self._welcomes: _Issued = OrderedDict()

    def issue(self, now: float, session: bytes | None = None) -> bytes:
        """A fresh 16-byte nonce, for ``session`` or, in a beacon, for everybody."""
        nonce = self._random(limits.NONCE)
        issued, most = (self._beacons, _BEACONS) if session is None else (self._welcomes, _WELCOMES)
        issued[nonce] = (now, session)
        while len(issued) > most or now - next(iter(issued.values()))[0] > limits.LIVE:
            issued.popitem(last=False)
        return nonce

    def issued_at(self, nonce: bytes, session: bytes, now: float) -> float:
        """When I issued ``nonce``, if it is for ``session`` and no older than 25 s. Raises Refusal."""
        issued, owner = self._beacons.get(nonce) or self._welcomes.get(nonce, (0.0, b""))
        if owner not in (None, session):
            raise Refusal("nonce-not-outstanding", "an echo of a nonce that was not issued to it")
        if now - issued > limits.LIVE:
            raise Refusal("nonce-not-outstanding", f"an echo of a nonce that is {now - issued:.0f} s old")
        return issued
