"""Requests that the policy cannot judge yet: kept for a while, and judged again.

docs/protocol.md, Publishing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dongled.agent.policy.api import Presented
from dongled.agent.protocol import limits
from dongled.agent.protocol.again import Again
from dongled.agent.protocol.remote import RemoteEpoch


@dataclass(frozen=True, slots=True)
class Asking:
    """A request that passed every check but perhaps the policy's; ``nonce`` and ``key_seq`` are its own.

    ``told``: that it is kept.
    """

    streams: frozenset[str]
    epoch: RemoteEpoch
    presented: Presented
    request: bytes
    nonce: bytes
    key_seq: int
    told: Again = field(default_factory=lambda: Again(limits.ANSWER_AGAIN), compare=False)


class HeldRequests:
    """The newest request of each session. Times are CLOCK_BOOTTIME, seconds."""

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[Asking, float]] = {}
        self._due = float("inf")

    def hold(self, session: bytes, ask: Asking, now: float) -> bool:
        """Keep it in place of the one before; False when there is no room."""
        if session not in self._held and len(self._held) >= limits.HELD_REQUESTS:
            return False
        self._held[session] = (ask, now + limits.HELD_REQUEST)
        self._due = min(self._due, now + limits.JUDGE_AGAIN)
        return True

    def get(self, session: bytes) -> Asking | None:
        held = self._held.get(session)
        return held[0] if held else None

    def drop(self, session: bytes) -> None:
        self._held.pop(session, None)

    def clear(self) -> None:
        self._held.clear()

    def next_tick(self) -> float:
        return self._due

    def current(self, now: float) -> list[tuple[bytes, Asking]]:
        """Those to be judged again, by session; what was kept too long is dropped."""
        self._held = {session: held for session, held in self._held.items() if now < held[1]}
        self._due = now + limits.JUDGE_AGAIN if self._held else float("inf")
        return [(session, ask) for session, (ask, _) in self._held.items()]
