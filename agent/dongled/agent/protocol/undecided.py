"""Announcements that the policy could not judge yet: kept for a while, and judged again."""

from __future__ import annotations

from collections import OrderedDict

KEPT = 16
EVERY = 1.0  # seconds
FOR = 60.0  # seconds


class Undecided:
    """The latest of each source that was refused for what may be known in a moment."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._due = float("inf")

    def hold(self, source: str, message: bytes, now: float) -> None:
        held = self._held.get(source)
        since = held[1] if held is not None and held[0] == message else now
        if now - since > FOR:
            self._held.pop(source, None)
            return
        self._held[source] = (message, since)
        if len(self._held) > KEPT:
            self._held.popitem(last=False)
        self._due = min(self._due, now + EVERY)

    def next_tick(self) -> float:
        return self._due

    def take(self) -> list[tuple[str, bytes]]:
        """All of them, to be judged again: whoever is still undecided is held again."""
        self._due = float("inf")
        return [(source, message) for source, (message, _) in self._held.items()]

    def messages(self) -> list[bytes]:
        return [message for message, _ in self._held.values()]

    def decided(self, source: str) -> None:
        self._held.pop(source, None)

    def refused(self, source: str, message: bytes) -> None:
        """This message is no announcement that could still be taken."""
        held = self._held.get(source)
        if held is not None and held[0] == message:
            del self._held[source]
