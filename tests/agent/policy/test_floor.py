"""The floor of trusted time over restarts: it outlives power cuts and rubbish, and never trusts anything."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import BUILD_TIME, MAX_STEP_BACK, TrustedClock
from dongled.agent.policy.floor import FloorFile, keep_floor

pytestmark = pytest.mark.property("P3")

LATER = BUILD_TIME + timedelta(days=100)
DAY = timedelta(days=1)


class Steady:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def clock(floor: datetime, wall: datetime, source: str = "system") -> TrustedClock:
    return TrustedClock(source, floor=floor, wall=lambda: wall, steady=Steady())


def test_kept_and_read_again(tmp_path: Path) -> None:
    file = FloorFile(tmp_path / "state")
    assert file.load() == BUILD_TIME
    file.save(LATER)
    assert FloorFile(tmp_path / "state").load() == LATER
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["floor.json"]


def test_it_is_never_lowered(tmp_path: Path) -> None:
    file = FloorFile(tmp_path)
    file.save(LATER)
    file.save(LATER - DAY)
    assert file.load() == LATER


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"floor": 5}',
        b'{"floor": "yesterday"}',
        b'{"floor": "9999-12-31T23:59:59+00:00"}',
        b'{"floor": "0001-01-01T00:00:00+14:00"}',
        b'{"floor": "2200-01-01T00:00:00+00:00"}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"floor": "2027-01-09T00:00:00+00:00"}'.ljust(300) + b"x",
    ],
)
def test_rubbish_is_ignored_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "floor.json").write_bytes(content)
    file = FloorFile(tmp_path)
    assert file.load() in (BUILD_TIME, datetime(2027, 1, 9, tzinfo=UTC))
    assert (file.load() == BUILD_TIME) is bool(caplog.records)
    file.save(LATER)
    assert file.load() == LATER


def test_a_power_cut_while_writing_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = FloorFile(tmp_path)
    file.save(LATER)

    def cut(*arguments: object) -> None:
        raise OSError(5, "cut")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.replace", cut)
            file.save(LATER + DAY)
        assert file.load() == LATER
    assert [path.name for path in tmp_path.iterdir()] == ["floor.json"]


def test_a_place_that_cannot_be_written_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    FloorFile(tmp_path / "state").save(LATER)
    assert caplog.records[-1].levelno == logging.WARNING


async def test_it_is_kept_while_running_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = Steady()
    here = TrustedClock("system", floor=LATER, wall=lambda: LATER, steady=steady)
    file = FloorFile(tmp_path)
    saved, loop = asyncio.Event(), asyncio.get_running_loop()
    save = file.save

    def told(floor: datetime) -> None:
        save(floor)
        loop.call_soon_threadsafe(saved.set)

    monkeypatch.setattr(file, "save", told)
    keeping = asyncio.create_task(keep_floor(here, file))
    async with asyncio.timeout(10):
        await saved.wait()
    steady.time = 86400.0
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert json.loads((tmp_path / "floor.json").read_text()) == {"floor": (LATER + DAY).isoformat()}


# --- clocks that are wrong ---------------------------------------------------------------------------


def test_awake_in_1970_and_in_the_past_of_the_last_run(tmp_path: Path) -> None:
    FloorFile(tmp_path).save(LATER)
    floor = FloorFile(tmp_path).load()
    for wall in (datetime(1970, 1, 1, tzinfo=UTC), LATER - DAY):
        with pytest.raises(PolicyRefused) as caught:
            clock(floor, wall).now()
        assert caught.value.reason == "time-below-floor"
    assert clock(floor, LATER + DAY).now() == LATER + DAY


def test_the_kept_floor_alone_makes_no_time_trusted(tmp_path: Path) -> None:
    FloorFile(tmp_path).save(LATER)
    with pytest.raises(PolicyRefused) as caught:
        clock(FloorFile(tmp_path).load(), LATER + DAY, "untrusted").now()
    assert caught.value.reason == "time-untrusted"


def test_a_clock_a_year_ahead_closes_nothing_for_longer_than_it_is(tmp_path: Path) -> None:
    ahead = clock(LATER, LATER + 365 * DAY)
    assert ahead.now() == LATER + 365 * DAY
    FloorFile(tmp_path).save(ahead.floor)
    assert clock(FloorFile(tmp_path).load(), LATER + DAY).now() == LATER + DAY


def test_seconds_that_went_by_are_a_floor_whatever_the_wall_clock_says() -> None:
    steady = Steady()
    here = TrustedClock("system", floor=LATER, wall=lambda: LATER + DAY, steady=steady)
    here.now()
    steady.time = timedelta(days=2).total_seconds()
    assert here.floor == LATER + 2 * DAY
    with pytest.raises(PolicyRefused) as caught:
        here.now()
    assert caught.value.reason == "time-below-floor"


def test_what_the_platform_signed_raises_the_floor_and_may_be_a_little_ahead() -> None:
    steady = Steady()
    here = TrustedClock("system", wall=lambda: LATER, steady=steady)
    here.vouch(LATER + MAX_STEP_BACK)
    assert here.floor == LATER + MAX_STEP_BACK
    assert here.now() == LATER
    here.vouch(LATER - DAY)
    assert here.floor == LATER + MAX_STEP_BACK
    assert clock(here.floor, LATER).now() == LATER
