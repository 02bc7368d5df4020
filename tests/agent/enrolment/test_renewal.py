"""The daemon's renewal with a clock of the test's own: when it asks, what it does when it cannot."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from dongled.agent.enrolment.enroller import Enrolled
from dongled.agent.enrolment.est import EnrolmentError, Pending
from dongled.agent.enrolment.renewal import Renewal, seconds_to_retire
from dongled.agent.enrolment.schedule import EACH, RENEW_AT, jitter_of
from dongled.agent.policy.clock import TrustedClock
from dongled.tokens.api import KeyRole
from support.authority import NOW, TERMINAL, Authority, der, new_key

LIFE = timedelta(days=100)
DAY = 86400.0
ROOT = Authority.root()
JITTER = jitter_of(TERMINAL)
FIRST = (RENEW_AT + EACH * JITTER) * 100  # days


class Done(Exception):
    """The test has seen enough."""


class Bench:
    """Stands in for the enroller, the clocks and the passing of time."""

    terminal = TERMINAL

    def __init__(self, *, certified: bool = True, source: str = "system") -> None:
        self.time = 0.0
        self.clock = TrustedClock(source, wall=self.wall, steady=lambda: self.time)
        self.key = new_key()
        self.held: dict[KeyRole, list[bytes]] = {KeyRole.IDENTITY: [], KeyRole.DATA: []}
        if certified:
            self.held = {role: [self.new()] for role in self.held}
        self.tries: list[tuple[str, float]] = []
        self.answer: Callable[[KeyRole], None] = lambda role: None
        self.changes: list[float] = []
        self.finished = 0
        self.drawn = 1.0

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self.time)

    def new(self) -> bytes:
        return der(ROOT.leaf(self.key, begin=self.wall(), end=self.wall() + LIFE))

    # What Renewal uses of an Enroller.

    def chain(self, role: KeyRole) -> list[bytes]:
        return self.held[role]

    def certificate(self, role: KeyRole) -> x509.Certificate | None:
        return x509.load_der_x509_certificate(self.held[role][0]) if self.held[role] else None

    async def finish(self) -> None:
        self.finished += 1

    async def enrol(self, role: KeyRole) -> Enrolled:
        self.tries.append((role.value, round(self.time / DAY, 3)))
        self.answer(role)
        self.held[role] = [self.new()]
        certificate = self.certificate(role)
        assert certificate is not None
        return Enrolled(role, certificate, True)

    async def run(self, until: float) -> list[tuple[str, float]]:
        """Tries until so many days have passed."""
        passed: Any = self

        async def sleep(seconds: float) -> None:
            assert 0 < seconds <= 3600
            self.time += seconds
            if self.time / DAY >= until:
                raise Done

        renewal = Renewal(
            passed, self.clock, lambda: self.changes.append(self.time), steady=lambda: self.time, sleep=sleep,
            draw=lambda: self.drawn,
        )  # fmt: skip
        self.renewal = renewal
        with pytest.raises(Done):
            await renewal.run()
        return self.tries


def failing(reason: str, times: int = 10**6) -> Callable[[KeyRole], None]:
    left = [times]

    def answer(role: KeyRole) -> None:
        if left[0]:
            left[0] -= 1
            raise EnrolmentError(reason, "no", "try")

    return answer


async def test_both_are_renewed_at_their_time_and_again() -> None:
    bench = Bench()
    tries = await bench.run(until=170)
    assert [role for role, _ in tries] == ["identity", "data"] * 2
    assert [day for _, day in tries] == pytest.approx([FIRST, FIRST, 2 * FIRST, 2 * FIRST], abs=0.02)
    assert len(bench.changes) == 4
    assert bench.finished == 1


async def test_after_a_failure_ever_later_and_the_old_one_stays() -> None:
    bench = Bench()
    bench.answer = failing("est-failing")
    before = dict(bench.held)
    tries = await bench.run(until=99)
    days = [day for role, day in tries if role == "identity"]
    pauses = [after - before for before, after in itertools.pairwise(days)]
    assert pauses[:3] == pytest.approx([30 / DAY, 60 / DAY, 120 / DAY], abs=0.001)
    assert pauses[-2:] == pytest.approx([4, 4], abs=0.01)
    assert bench.held == before
    assert bench.changes == []
    assert bench.renewal.roles[KeyRole.DATA].failures == len(days)
    assert bench.renewal.roles[KeyRole.DATA].why == "no [est-failing]"


async def test_a_platform_back_from_an_outage() -> None:
    bench = Bench()
    bench.answer = failing("est-unreachable", times=3)
    assert len(await bench.run(until=95)) == 5
    assert all(not state.why for state in bench.renewal.roles.values())


async def test_no_certificate_yet() -> None:
    bench = Bench(certified=False)
    bench.answer = failing("est-unreachable", times=2)
    tries = await bench.run(until=0.1)
    # The data key waits for the identity, and then for nothing more.
    assert [role for role, _ in tries] == ["identity"] * 3 + ["data"]
    assert [day * DAY for _, day in tries[-2:]] == pytest.approx([90, 90], abs=60)
    assert all(bench.held.values())
    assert len(bench.changes) == 2


@pytest.mark.parametrize(("drawn", "tries"), [(0.0, 7), (1.0, 6)])
async def test_an_outage_is_asked_about_at_random_and_ever_later(drawn: float, tries: int) -> None:
    bench = Bench(certified=False)
    bench.drawn = drawn
    bench.answer = failing("est-unreachable", times=6)
    # Half an hour: 10 s each time, or 30, 60, 120, 240 and 480 s.
    roles = [role for role, _ in await bench.run(until=0.5 / 24)]
    assert roles.count("identity") == tries


async def test_a_code_that_is_refused_is_not_tried_again_and_again() -> None:
    bench = Bench(certified=False)
    bench.answer = failing("est-credentials")
    # Half an hour, in which an outage is asked about six times.
    assert await bench.run(until=0.5 / 24) == [("identity", 0)]


async def test_being_told_to_wait_is_no_failure() -> None:
    bench = Bench(certified=False)
    waits = [7200.0, 0.0]

    def answer(role: KeyRole) -> None:
        if role is KeyRole.IDENTITY and waits:
            raise Pending(waits.pop(0))

    bench.answer = answer
    tries = await bench.run(until=0.2)
    identity = [day * DAY for role, day in tries if role == "identity"]
    assert identity == pytest.approx([0, 7200, 7260], abs=50)
    assert bench.renewal.roles[KeyRole.IDENTITY].failures == 0


async def test_without_trusted_time_nothing_is_asked() -> None:
    for certified in (True, False):
        assert await Bench(source="untrusted", certified=certified).run(until=1) == []


async def test_a_clock_that_was_wrong_at_the_start() -> None:
    """Woken up in 1970, set an hour later: the renewal is not missed."""
    bench = Bench()

    def wall() -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) if bench.time < 3600 else bench.wall()

    bench.clock = TrustedClock("system", wall=wall, steady=lambda: bench.time)
    tries = await bench.run(until=90)
    assert tries[0][1] == pytest.approx(FIRST, abs=0.05)


async def test_somebody_else_renewed() -> None:
    bench = Bench()

    async def other() -> None:
        bench.held[KeyRole.IDENTITY] = [bench.new()]

    await other()
    bench.answer = failing("est-failing")
    task = asyncio.ensure_future(bench.run(until=1))
    await task
    assert bench.changes == []
    bench.held[KeyRole.IDENTITY] = [bench.new()]
    bench.renewal._look()
    assert len(bench.changes) == 1


def test_sessions_go_on_while_their_certificates_last() -> None:
    now = datetime.now(UTC)
    long = der(ROOT.leaf(begin=now, end=now + LIFE))
    short = der(ROOT.leaf(begin=now - LIFE, end=now + timedelta(days=1)))
    assert seconds_to_retire([long]) == pytest.approx(96 * DAY, abs=10)
    assert seconds_to_retire([long, short]) == 0
