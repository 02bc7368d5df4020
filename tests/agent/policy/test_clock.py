"""A clock that lies must not open anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from dongled.agent import wiring
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import BUILD_TIME, MAX_STEP_BACK, TimeSource, TrustedClock, told_time
from dongled.agent.policy.hardware_clock import confirm_by_hardware, hardware_time
from dongled.config.api import Settings

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


# --- who vouches ---------------------------------------------------------------------------------------

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("source", ["rtc", "operator"])
def test_a_wall_clock_is_believed_once_its_source_agrees(source: str) -> None:
    wall, steady = Wall(LATER), [100.0]
    clock = TrustedClock(source, wall=wall, steady=lambda: steady[0])
    assert refusal(clock) == "time-untrusted"
    with pytest.raises(PolicyRefused) as caught:
        clock.confirm(LATER + 6 * MINUTE)
    assert caught.value.reason == "time-differs"
    assert refusal(clock) == "time-untrusted"

    clock.confirm(LATER + 4 * MINUTE)
    assert clock.now() == LATER
    # A day passes, by both.
    steady[0] += 86_400
    wall.time += timedelta(days=1)
    assert clock.now() == wall.time
    # Somebody sets it, ahead or back.
    for step in (timedelta(days=365), timedelta(days=-365), 10 * MINUTE):
        wall.time += step
        assert refusal(clock) == "time-differs"
        wall.time -= step
    assert clock.now() == wall.time


def test_it_is_not_carried_past_a_clock_that_stood_still() -> None:
    """The machine slept and its wall clock did not go on: the steady one did (CLOCK_BOOTTIME)."""
    steady = [0.0]
    clock = TrustedClock("operator", wall=Wall(LATER), steady=lambda: steady[0])
    clock.confirm(LATER)
    steady[0] = 3600.0
    assert refusal(clock) == "time-differs"


def test_no_word_is_taken_for_a_time_that_has_passed_or_without_a_source() -> None:
    past = Wall(BUILD_TIME - timedelta(days=1))
    clock = TrustedClock("operator", wall=past)
    with pytest.raises(PolicyRefused) as caught:
        clock.confirm(past.time)
    assert caught.value.reason == refusal(clock) == "time-below-floor"
    nobody = TrustedClock("untrusted", wall=Wall(LATER))
    with pytest.raises(PolicyRefused):
        nobody.confirm(LATER)
    assert refusal(nobody) == "time-untrusted"


def test_a_later_word_counts() -> None:
    wall = Wall(LATER)
    clock = TrustedClock("operator", wall=wall, steady=lambda: 0.0)
    clock.confirm(LATER)
    wall.time += timedelta(hours=1)
    assert refusal(clock) == "time-differs"
    clock.confirm(wall.time)
    assert clock.now() == wall.time


def test_a_time_that_somebody_says() -> None:
    assert told_time("2027-03-01T12:34Z") == datetime(2027, 3, 1, 12, 34, tzinfo=UTC)
    assert told_time("2027-03-01T12:34:56+09:00") == datetime(2027, 3, 1, 3, 34, 56, tzinfo=UTC)
    for bad in ("", "noon", "2027-03-01T12:34", "0001-01-01T00:00+23:59", "9" * 99):
        with pytest.raises(AgentError) as caught:
            told_time(bad)
        assert caught.value.reason == "time-format"


def hardware(directory: Path, **clocks: tuple[str, str]) -> Path:
    """As the kernel shows them: whether the system's time came from it, and its seconds since 1970."""
    for name, (first, seconds) in clocks.items():
        (directory / name).mkdir()
        (directory / name / "hctosys").write_text(f"{first}\n")
        (directory / name / "since_epoch").write_text(f"{seconds}\n")
    return directory


def test_the_hardware_clock_that_the_system_s_was_set_from(tmp_path: Path) -> None:
    seconds = f"{LATER.timestamp():.0f}"
    clocks = hardware(tmp_path, rtc0=("0", "17"), rtc1=("1", seconds))
    assert hardware_time(clocks) == LATER
    clock = TrustedClock("rtc", wall=Wall(LATER))
    confirm_by_hardware(clock, clocks)
    assert clock.now() == LATER


@pytest.mark.parametrize("seconds", ["86400", "", "x", "9" * 30])
def test_a_hardware_clock_without_battery_or_sense_vouches_for_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: str
) -> None:
    clock = TrustedClock("rtc", wall=Wall(LATER))
    confirm_by_hardware(clock, hardware(tmp_path, rtc0=("1", seconds)))
    assert "hardware clock" in caplog.text
    assert refusal(clock) == "time-untrusted"
    assert ("time-differs" in caplog.text) is (seconds == "86400")
    confirm_by_hardware(clock, tmp_path / "none")
    assert refusal(clock) == "time-untrusted"


def test_both_in_1970_are_below_the_floor(tmp_path: Path) -> None:
    clock = TrustedClock("rtc", wall=Wall(datetime(1970, 1, 2, tzinfo=UTC)))
    confirm_by_hardware(clock, hardware(tmp_path, rtc0=("1", "86400")))
    assert refusal(clock) == "time-below-floor"


def test_the_setting_has_the_hardware_clock_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrustedClock] = []
    monkeypatch.setattr(wiring, "confirm_by_hardware", asked.append)
    for source in ("rtc", "operator", "system", "untrusted"):
        trust = {"time_source": source}
        settings = Settings.model_validate(
            {"terminal": {"name": "door"}, "state": {"directory": tmp_path}, "trust": trust}
        )
        assert wiring.open_clock(settings).source == source
    assert [clock.source for clock in asked] == ["rtc"]
