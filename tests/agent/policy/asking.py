"""A fetcher at work, and the verdicts that the policy would be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from cryptography import x509

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.fetch import FetchSettings, RevocationFetcher
from dongled.agent.policy.revocation import Mode, Revocations
from support.authority import DAY, NOW


class Steady:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Asking:
    """A fetcher at work, and what the policy would be told."""

    def __init__(
        self,
        mode: Mode,
        path: list[x509.Certificate],
        wall: Callable[[], datetime] = lambda: NOW,
        *,
        timeout: float = 5.0,
        **settings: Any,
    ) -> None:
        self.path = path
        self.wall = wall
        self.steady = Steady()
        self.clock = TrustedClock("system", wall=lambda: self.wall(), steady=lambda: 0.0)
        self.revocations = Revocations(mode)
        how = FetchSettings(**{"max_age": DAY, "refresh": 120.0, **settings})
        self.fetcher = RevocationFetcher(
            self.revocations, how, self.clock, timeout=timeout, steady=self.steady
        )
        self._heard = asyncio.Event()
        self.revocations.learn = self._telling(self.revocations.learn)  # type: ignore[method-assign]  # to wait
        self.revocations.failed = self._telling(self.revocations.failed)  # type: ignore[method-assign]  # to wait

    def _telling(self, step: Callable[..., None]) -> Callable[..., None]:
        def told(*arguments: Any) -> None:
            try:
                step(*arguments)
            finally:
                self._heard.set()

        return told

    def verdict(self) -> str:
        try:
            self.revocations.check(self.path, self.wall())
        except PolicyRefused as error:
            return error.reason
        return "good"

    async def settled(self) -> str:
        """The verdict once the next question was answered or given up."""
        self._heard.clear()
        self.verdict()
        async with asyncio.timeout(20):
            await self._heard.wait()
        return self.verdict()

    async def until(self, verdict: str) -> None:
        async with asyncio.timeout(20):
            while self.verdict() != verdict:
                self._heard.clear()
                await self._heard.wait()

    async def again(self, seconds: float = 1000.0) -> str:
        """The verdict after that time and another question."""
        self.steady.time += seconds
        return await self.settled()


@asynccontextmanager
async def asking(mode: Mode, path: list[x509.Certificate], *more: Any, **how: Any) -> AsyncIterator[Asking]:
    here = Asking(mode, path, *more, **how)
    task = asyncio.create_task(here.fetcher.run())
    try:
        yield here
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
