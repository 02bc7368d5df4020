"""Answers that are said again when their question comes again: ever less often, whoever plays it again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Again:
    """When one answer may be said: at once, then after ``gap`` seconds, and each time after twice as long.

    Who waits for an answer repeats its question ever less often too. Times are CLOCK_BOOTTIME, seconds.
    """

    gap: float
    due_at: float = float("-inf")

    def take(self, now: float) -> bool:
        """True when it may be said now; then it counts as said."""
        if now < self.due_at:
            return False
        self.due_at, self.gap = now + self.gap, 2 * self.gap
        return True
