"""Who was expelled from a meeting: kept for longer than a session of mine, which may have to begin anew."""

from __future__ import annotations

from collections import OrderedDict

from dongled.agent.protocol import limits
from dongled.agent.protocol.refusal import Refusal


class Bans:
    """By terminal, until when it stays out (CLOCK_BOOTTIME, seconds), whatever session it comes with."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, terminal: str, until: float) -> None:
        self._until[terminal] = max(until, self._until.get(terminal, until))
        while len(self._until) > limits.TOMBSTONES:
            self._until.popitem(last=False)

    def check(self, terminal: str, now: float) -> None:
        """Raises Refusal for a terminal that a moderator has expelled."""
        if now < self._until.get(terminal, now):
            raise Refusal("expelled", f"{terminal} was expelled")
