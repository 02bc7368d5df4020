"""The customer's own program decides: asked in the background, and again as long as its answer is used.

So a meeting never waits for it, a changed mind is noticed within ``refresh`` seconds, and when it is dead,
what it allowed runs out after ``remember`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from dongled.agent.clock import boottime
from dongled.agent.policy.api import PolicyRefused, PolicyUndecided
from dongled.agent.policy.authorizer.api import Question
from dongled.agent.policy.authorizer.exchange import Exchange, Verdict

log = logging.getLogger(__name__)

MOST = 256  # questions
AT_ONCE = 4
IDLE = 150.0  # seconds after which a question that nobody repeats is forgotten
RETRY_FIRST = 2.0  # seconds after a failure, then twice as long each time
RETRY_MOST = 30.0


@dataclass(slots=True)
class _Known:
    question: Question
    asked: float
    due: float
    verdict: Verdict | None = None
    until: float = 0.0
    failure: PolicyUndecided | None = None
    failures: int = 0


class Program:
    """``remember`` and ``refresh`` in seconds, the latter the shorter."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        remember: float,
        refresh: float,
        steady: Callable[[], float] = boottime,
    ) -> None:
        self._exchange = exchange
        self._remember, self._refresh = remember, refresh
        self._steady = steady
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._learned: Callable[[], None] = lambda: None
        self._wake = asyncio.Event()

    def decide(self, question: Question, stream: str) -> str:
        now = self._steady()
        known = self._known.get(question.id)
        if known is None:
            known = self._known[question.id] = _Known(question, now, now)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        known.asked = now
        self._known.move_to_end(question.id)
        if known.due <= now:
            self._wake.set()
        if known.verdict is None or now >= known.until:
            raise known.failure or PolicyUndecided("authorizer-pending", "the authorizer is being asked")
        why = f": {known.verdict.reason}" if known.verdict.reason else ""
        if stream not in known.verdict.streams:
            raise PolicyRefused("authorizer-refused", f"the authorizer refused{why}")
        return f"the authorizer allowed it{why}"

    def on_learned(self, learned: Callable[[], None]) -> None:
        self._learned = learned

    async def run(self) -> None:
        """Until cancelled. Called again after a failure, it asks everything again."""
        for known in self._known.values():
            known.due = min(known.due, self._steady())
        limit = asyncio.Semaphore(AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    now = self._steady()
                    for gone in [i for i, known in self._known.items() if now - known.asked > IDLE]:
                        del self._known[gone]
                    self._end_old(now)
                    for known in self._known.values():
                        if known.due <= now:
                            known.due = math.inf
                            group.create_task(self._ask(known, limit))
                    await self._sleep(now)
        finally:
            await self._exchange.close()

    async def _sleep(self, now: float) -> None:
        ends = [known.until for known in self._known.values() if known.verdict is not None]
        due = min([*(known.due for known in self._known.values()), *ends, now + IDLE])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - now)):
                await self._wake.wait()

    def _end_old(self, now: float) -> None:
        # Whoever watches by it is judged again at that moment, whether or not the program answers.
        over = [known for known in self._known.values() if known.verdict is not None and known.until <= now]
        for known in over:
            known.verdict = None
        if over:
            self._learned()

    async def _ask(self, known: _Known, limit: asyncio.Semaphore) -> None:
        async with limit:
            try:
                verdict = await self._exchange.ask(known.question)
            except PolicyUndecided as error:
                log.warning("%s [%s]", error, error.reason)
                known.failure, known.failures = error, known.failures + 1
                delay = min(RETRY_MOST, RETRY_FIRST * 2 ** min(known.failures - 1, 10))
            else:
                known.verdict, known.failure, known.failures = verdict, None, 0
                known.until = self._steady() + min(self._remember, verdict.seconds)
                delay = min(self._refresh, 0.8 * verdict.seconds)
        known.due = self._steady() + delay
        self._wake.set()
        self._learned()
