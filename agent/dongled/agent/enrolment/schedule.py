"""When a certificate is to be renewed: at 80 % of its life and a little, and ever later after a failure.

A fleet that the platform could not answer together comes back at any time of the pause (full jitter). After
so many failures, of which a refused code counts as all, in its last quarter.
"""

from __future__ import annotations

import hashlib
import math
from datetime import datetime

RENEW_AT = 0.80  # of the life
EACH = 0.04  # of the life: places of a fleet, and the longest pause
SOONEST = 10.0  # seconds between two tries
LATEST = 86400.0  # seconds between two tries, once it has expired
SPREAD = 300.0  # seconds over which terminals that woke up late together ask
RETRY = 30.0  # seconds, at most, after the first failure
FIRST_MOST = 3600.0  # seconds between two tries, while there is no certificate at all
SETTLED = 8  # failures


def jitter_of(terminal: str) -> float:
    """A terminal's place in the fleet, 0 to 1: always the same, and no two together."""
    return int.from_bytes(hashlib.sha256(terminal.encode()).digest()[:8], "big") / 2**64


def seconds_to_renewal(
    not_before: datetime, not_after: datetime, now: datetime, jitter: float, draw: float, failures: int
) -> float:
    """Seconds from ``now`` until the next try; ``failures`` counts those of this certificate's renewal.

    Tries begin at 80 % + jitter * 4 % of the life, and go on after its end, at least daily. ``draw`` is a
    new random number from 0 to 1 for each try.
    """
    life = max(1.0, (not_after - not_before).total_seconds())
    passed = (now - not_before).total_seconds()
    if failures:
        return _pause(draw, failures, EACH * life if passed < life else min(EACH * life, LATEST))
    due = (RENEW_AT + EACH * jitter) * life
    # Switched on late, maybe with the whole building.
    return due - passed if passed < due else jitter * min(SPREAD, EACH * life)


def seconds_to_first(draw: float, failures: int) -> float:
    """The same while there is no certificate: at once, then ever later, up to an hour."""
    return _pause(draw, failures, FIRST_MOST) if failures else 0.0


def _pause(draw: float, failures: int, most: float) -> float:
    most = max(SOONEST, min(most, RETRY * math.pow(2, min(failures - 1, 20))))
    least = SOONEST if failures < SETTLED else max(SOONEST, 0.75 * most)
    return least + draw * (most - least)
