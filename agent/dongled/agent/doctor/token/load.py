"""What a token's speed means for a meeting, by docs/protocol.md: who signs and agrees when."""

from __future__ import annotations

from dataclasses import dataclass

from dongled.agent.protocol.limits import BEACON, ROUND
from dongled.tokens.measure import Timing


@dataclass(frozen=True, slots=True)
class Load:
    """With ``cameras`` in the meeting: ``join`` in seconds from joining to every key, the rest shares of 1.

    ``presence``: what beacons and announcements take of the identity's token; ``keys``: what the cameras'
    keys of each round take of the data key's.
    """

    cameras: int
    join: float
    presence: float
    keys: float


def load(cameras: int, sign: Timing, derive: Timing) -> Load:
    """A terminal signs an announcement and a beacon as it joins, then the one each round and the other each
    7 s; a viewer agrees once a camera and round."""
    return Load(
        cameras,
        join=2 * sign.p50 + cameras * derive.p50,
        presence=sign.p50 / BEACON + sign.p50 / ROUND,
        keys=cameras * derive.p50 / ROUND,
    )
