"""A clock that lies must not open anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import BUILD_TIME, MAX_STEP_BACK, TimeSource, TrustedClock

pytestmark = pytest.mark.property("P3")

LATER = BUILD_TIME + timedelta(days=100)


class Wall:
    def __init__(self, time: datetime) -> None:
        self.time = time

    def __call__(self) -> datetime:
        return self.time


def refusal(clock: TrustedClock) -> str:
    with pytest.raises(PolicyRefused) as caught:
        clock.now()
    return caught.value.reason


def test_no_clock_is_trusted_by_default() -> None:
    assert refusal(TrustedClock(wall=Wall(LATER))) == "time-untrusted"


def test_the_systems_clock_is_believed_when_told_to() -> None:
    clock = TrustedClock("system", wall=Wall(LATER))
    assert clock.now() == LATER
    assert clock.source is TimeSource.SYSTEM


def test_the_real_clock_is_past_the_build() -> None:
    assert TrustedClock("system").now() > BUILD_TIME


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="sundial"):
        TrustedClock("sundial")


def test_1970_is_below_the_floor() -> None:
    assert refusal(TrustedClock("system", wall=Wall(datetime(1970, 1, 1, tzinfo=UTC)))) == "time-below-floor"


def test_the_floor_can_be_raised_and_not_lowered() -> None:
    day = timedelta(days=1)
    assert refusal(TrustedClock("system", floor=LATER, wall=Wall(LATER - day))) == "time-below-floor"
    low = TrustedClock(
        "system", floor=datetime(1970, 1, 1, tzinfo=UTC), wall=Wall(BUILD_TIME - day), steady=lambda: 0.0
    )
    assert refusal(low) == "time-below-floor"
    assert low.floor == BUILD_TIME


def test_the_floor_alone_makes_no_time_trusted() -> None:
    assert refusal(TrustedClock(floor=LATER, wall=Wall(LATER + timedelta(days=1)))) == "time-untrusted"


def test_a_clock_set_back_while_running_is_refused_until_it_is_right_again() -> None:
    wall = Wall(LATER)
    clock = TrustedClock("system", wall=wall)
    clock.now()
    wall.time = LATER - timedelta(days=1)
    assert refusal(clock) == "time-below-floor"
    wall.time = LATER - MAX_STEP_BACK
    assert clock.now() == wall.time


def test_small_steps_back_do_not_add_up() -> None:
    wall = Wall(LATER)
    clock = TrustedClock("system", wall=wall)
    clock.now()
    wall.time -= MAX_STEP_BACK / 2
    clock.now()
    wall.time -= MAX_STEP_BACK
    assert refusal(clock) == "time-below-floor"


def test_other_time_zones_are_the_same_time() -> None:
    east = timezone(timedelta(hours=9))
    now = TrustedClock("system", wall=Wall(LATER.astimezone(east))).now()
    assert now == LATER
    assert now.tzinfo is UTC
