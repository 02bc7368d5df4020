"""How long frames spend in each stage of their way."""

from __future__ import annotations

from collections import deque

_FRAMES = 64


class Stages:
    """The mean over each stage's last 64 frames. Not locked."""

    def __init__(self) -> None:
        self._spent: dict[str, deque[float]] = {}

    def add(self, stage: str, seconds: float) -> None:
        self._spent.setdefault(stage, deque(maxlen=_FRAMES)).append(seconds)

    def read(self) -> dict[str, float]:
        """Seconds by stage, in the order in which stages were first gone through."""
        return {stage: sum(spent) / len(spent) for stage, spent in self._spent.items()}
