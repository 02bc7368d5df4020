"""How many messages a source of the bus may send: a token bucket for each (docs/protocol.md, Limits)."""

from __future__ import annotations

from collections import OrderedDict

from dongled.agent.protocol import limits


class Quota:
    """Sources beyond the limit push out the one that was silent longest."""

    def __init__(self, burst: float = limits.QUOTA_BURST, rate: float = limits.QUOTA_RATE) -> None:
        """``rate`` is a second's."""
        self._burst, self._rate = burst, rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str, now: float) -> bool:
        """True when ``source`` may send one more message now (CLOCK_BOOTTIME, seconds)."""
        left, at = self._left.pop(source, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= 1
        self._left[source] = (left - 1 if allowed else left, now)
        if len(self._left) > limits.SOURCES:
            self._left.popitem(last=False)
        return allowed
