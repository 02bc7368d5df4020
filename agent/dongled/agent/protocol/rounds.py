"""Rounds: fresh epoch keys, links and generation, so that what was stolen ends (docs/protocol.md, Rounds)."""

from __future__ import annotations

from collections.abc import Callable

from dongled.agent.protocol import limits
from dongled.agent.protocol.introductions import Introductions
from dongled.agent.protocol.own import OwnEpoch
from dongled.agent.protocol.private import Private
from dongled.agent.protocol.publisher import Publisher
from dongled.agent.protocol.state import State


class Rounds:
    """``make`` has the keys of epoch ``number`` generated, to follow the announcement of that hash.

    Times are CLOCK_BOOTTIME, seconds.
    """

    def __init__(
        self,
        state: State,
        introductions: Introductions,
        publisher: Publisher,
        private: Private,
        make: Callable[[int, bytes], OwnEpoch],
    ) -> None:
        self._state = state
        self._introductions = introductions
        self._publisher = publisher
        self._private = private
        self._make = make
        self._begin_at = float("inf")
        self._renew_at = float("inf")

    def start(self, now: float) -> None:
        """The first epoch is certified."""
        self._begin_at = self._next(now)

    def next_tick(self) -> float:
        return min(self._begin_at, self._renew_at)

    def tick(self, now: float) -> None:
        if now >= self._begin_at:
            self._begin(now)
        if now >= self._renew_at:
            self._renew_at = float("inf")
            self._judge(now, patient=False)
            self._publisher.renew(now)

    def _next(self, now: float) -> float:
        jitter = int.from_bytes(self._state.random(2)) / 65_536
        return now + limits.ROUND + jitter * limits.ROUND_JITTER

    def _judge(self, now: float, *, patient: bool) -> None:
        # Whose certificate was revoked neither watches nor is watched beyond a round.
        for remote in list(self._state.remotes.values()):
            self._introductions.judge_again(remote, now, patient=patient)

    def _begin(self, now: float) -> None:
        self._begin_at = self._next(now)
        self._judge(now, patient=True)

        def certified(now: float) -> None:
            self._renew_at = now + limits.RENEW
            self._private.renew(now)

        me = self._state.me
        self._introductions.announce(self._make(me.party.epoch + 1, me.digest), certified, now)
