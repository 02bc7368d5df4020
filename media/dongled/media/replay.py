"""The replay window of one key: which counters were already opened."""

from __future__ import annotations

from dongled.media.errors import FrameRejected

WINDOW = 1024
"""How far behind the newest frame one may still arrive, frames."""


# RFC 9605, 9.3: Anti-Replay
class ReplayWindow:
    """Counters seen under one key. ``check`` changes nothing; ``commit`` is for what all else vouched for.

    So a forged frame can neither move the window nor use up a counter.
    """

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = -1
        self._seen = 0  # bit n: highest - n was opened

    def check(self, ctr: int) -> None:
        """Raises FrameRejected: ``replay`` (seen before), ``too-old`` (behind the window)."""
        age = self.highest - ctr
        if age >= WINDOW:
            raise FrameRejected("too-old", f"frame {ctr} is {age} behind the newest")
        if age >= 0 and self._seen >> age & 1:
            raise FrameRejected("replay", f"frame {ctr} was opened before")

    def commit(self, ctr: int) -> None:
        """Count ``ctr``, which ``check`` let pass, as opened."""
        ahead = ctr - self.highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
            self.highest = ctr
        else:
            self._seen |= 1 << -ahead
