"""How fast a token is: its two operations, each timed by itself, for a bounded time and number."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens.api import TokenKeys


@dataclass(frozen=True, slots=True)
class Timing:
    """Of ``count`` operations: how many a second, and within how many seconds half and 95 % were done."""

    count: int
    rate: float
    p50: float
    p95: float


Operation = Callable[[], Awaitable[object]]


def operations(keys: TokenKeys) -> tuple[Operation, Operation]:
    """One signature, and one key agreement, as the protocol asks for them."""
    peer = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = peer.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return lambda: keys.sign(secrets.token_bytes(32)), lambda: keys.derive(point, "")


async def once(operation: Operation) -> float:
    """The seconds that one takes. Raises TokenError."""
    begun = time.monotonic()
    await operation()
    return time.monotonic() - begun


async def measure(operation: Operation, seconds: float, most: int) -> Timing:
    """One after the other, at least one, until the time or the number is reached. Raises TokenError."""
    begun = time.monotonic()
    taken: list[float] = []
    while not taken or (len(taken) < most and time.monotonic() - begun < seconds):
        taken.append(await once(operation))
    taken.sort()
    last = len(taken) - 1
    # The nearest rank, so that a few slow ones show.
    return Timing(len(taken), len(taken) / sum(taken), taken[round(0.5 * last)], taken[-(-95 * last // 100)])
