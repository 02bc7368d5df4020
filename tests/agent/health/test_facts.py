"""What status says of certificates, time and revocation, taken from the real things."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.enrolment.test_renewal import Bench as RenewalBench
from agent.policy.asking import asking
from dongled.agent.enrolment.renewal import Renewal
from dongled.agent.health.facts import certificate_status, time_status
from dongled.agent.policy.clock import BUILD_TIME, TrustedClock
from dongled.agent.policy.revocation import Mode
from dongled.agent.policy.trust import Trust
from dongled.agent.terminal import Terminal
from dongled.tokens.api import KeyRole
from support.authority import DAY, NOW, TERMINAL, Authority, der
from support.platform import ocsp_answer
from support.web import ok, web

ROOT = Authority.root()


def terminal(*, data: bool = True) -> Terminal:
    identity, other = ROOT.leaf(end=NOW + 3 * DAY), ROOT.data_leaf(begin=NOW - DAY, end=NOW - DAY / 2)
    return Terminal(TERMINAL, cast(Any, None), [der(identity)], [der(other)] if data else [], cast(Any, None))


async def test_certificates_tell_their_days_from_now() -> None:
    identity, data = certificate_status(terminal(), None, NOW)
    assert (identity.role, identity.subject, identity.renewal) == ("identity", "CN=terminal", "off")
    assert (identity.not_before, identity.not_after, identity.life) == (-86400, 3 * 86400, 4 * 86400)
    assert identity.until == "2027-03-04T12:00+00:00"
    assert data.not_after == -43200
    assert [each.role for each in certificate_status(terminal(data=False), None, NOW)] == ["identity"]
    assert certificate_status(None, None, NOW) == []


async def test_renewal_is_told_with_them() -> None:
    bench = RenewalBench()
    renewal = Renewal(cast(Any, bench), bench.clock, lambda: None, steady=lambda: bench.time)
    renewal.roles[KeyRole.IDENTITY].due = 500.0
    failed = renewal.roles[KeyRole.DATA]
    failed.failures, failed.why, failed.due = 2, "no answer [est-unreachable]", 60.0
    identity, data = certificate_status(terminal(), renewal, NOW)
    assert (identity.renewal, identity.renewal_due) == ("planned", 500.0)
    assert (data.renewal, data.renewal_failures, data.renewal_due) == ("failing", 2, 60.0)
    assert data.renewal_why == "no answer [est-unreachable]"
    failed.failures = 0
    assert certificate_status(terminal(), renewal, NOW)[1].renewal == "waiting"
    without = certificate_status(None, renewal, NOW)
    assert [(each.role, each.until) for each in without] == [("identity", ""), ("data", "")]


def trust(clock: TrustedClock) -> Trust:
    return Trust(cast(Any, None), clock, cast(Any, None), None)


def test_time_is_believed_or_says_why_not() -> None:
    assert time_status(None) is None
    unvouched = time_status(trust(TrustedClock()))
    assert unvouched is not None
    assert (unvouched.trusted, unvouched.reason) == (False, "time-untrusted")
    wall = SimpleNamespace(time=datetime(1970, 1, 1, tzinfo=UTC))
    clock = TrustedClock("system", wall=lambda: wall.time, steady=lambda: 0.0)
    below = time_status(trust(clock))
    assert below is not None
    assert (below.trusted, below.reason) == (False, "time-below-floor")
    wall.time = BUILD_TIME + 2 * DAY
    believed = time_status(trust(clock))
    assert believed is not None
    assert (believed.source, believed.trusted, believed.why) == ("system", True, "")


def test_looking_at_the_time_raises_no_floor() -> None:
    # A clock that is a year ahead for a moment must not close the terminal because somebody asked how it is.
    wall = SimpleNamespace(time=BUILD_TIME + timedelta(days=365))
    clock = TrustedClock("system", wall=lambda: wall.time, steady=lambda: 0.0)
    assert clock.refusal() is None
    wall.time = BUILD_TIME + DAY
    assert clock.now() == wall.time
    assert clock.refusal() is None


@pytest.mark.parametrize(("answers", "expected"), [(False, {"revocation-unreachable": 1}), (True, {})])
async def test_certificates_that_nobody_answers_for_are_counted(
    answers: bool, expected: dict[str, int]
) -> None:
    root = Authority.root(end=NOW + 365 * DAY)
    leaf = root.leaf()
    async with web() as served:
        served.answer = lambda head: ok(
            ocsp_answer(root, leaf) if answers else b"", status="200 OK" if answers else "500 Oops"
        )
        async with asking(Mode.OCSP, [leaf, root.certificate], responder=served.url) as here:
            here.verdict()
            await here.settled()
            await asyncio.sleep(0)
            assert dict(here.fetcher.failing()) == expected
