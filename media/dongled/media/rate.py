"""How fast a stream runs."""

from __future__ import annotations

from collections import deque

_WINDOW = 2.0


class Rate:
    """Frames and bits a second over the last two seconds."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, int]] = deque()

    def add(self, size: int, now: float) -> None:
        """A frame of ``size`` bytes at ``now``, in seconds."""
        self._sent.append((now, size))
        self._forget(now)

    def read(self, now: float) -> tuple[float, float]:
        """Frames a second, bits a second."""
        self._forget(now)
        span = now - self._sent[0][0] if self._sent else 0.0
        if span <= 0:
            return 0.0, 0.0
        # The oldest frame only marks where the interval begins.
        size = sum(size for _, size in self._sent) - self._sent[0][1]
        return (len(self._sent) - 1) / span, 8 * size / span

    def _forget(self, now: float) -> None:
        while self._sent and now - self._sent[0][0] > _WINDOW:
            self._sent.popleft()
