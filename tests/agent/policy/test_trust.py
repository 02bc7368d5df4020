"""What keeps the policy current: a defect in one part of it leaves the others at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from dongled.agent import tasks
from dongled.agent.policy.authorizer.api import Question
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.fetch import FetchSettings, RevocationFetcher
from dongled.agent.policy.floor import FloorFile
from dongled.agent.policy.revocation import Mode, Revocations
from dongled.agent.policy.trust import Trust
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import DAY, NOW, Authority, der


class Deciding:
    """An authorizer that ends approvals as long as it runs."""

    def __init__(self) -> None:
        self.starts = 0

    def decide(self, question: Question, stream: str) -> str:
        return ""

    def on_learned(self, learned: Callable[[], None]) -> None:
        """Never learns anything."""

    async def run(self) -> None:
        self.starts += 1
        await asyncio.Event().wait()


async def test_who_asks_about_revocations_fails_and_approvals_still_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_FIRST", 0.01)
    clock = TrustedClock("system", wall=lambda: NOW)
    fetcher = RevocationFetcher(Revocations(Mode.OCSP), FetchSettings(DAY, 120.0), clock)
    failed, again = 0, asyncio.Event()

    async def defect() -> None:
        nonlocal failed
        failed += 1
        if failed == 3:
            again.set()
        raise RuntimeError("a defect")

    monkeypatch.setattr(fetcher, "run", defect)
    deciding = Deciding()
    policy = CertificatePolicy([der(Authority.root().certificate)], clock)
    trust = Trust(policy, clock, FloorFile(tmp_path), fetcher, deciding)
    running = asyncio.create_task(trust.run())
    async with asyncio.timeout(20):
        await again.wait()
    assert deciding.starts == 1
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
