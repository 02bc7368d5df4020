"""The machine's clock is set wrong in mid-meeting, and right again."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.conftest import Company, Launch
from integration.running import Running, opened, watching

pytestmark = [pytest.mark.timeout(300), pytest.mark.property("P3")]

DAY = 86_400
# Runs in each daemon before anything else does: the wall clock alone goes wrong, by what a file says.
PATCH = """
import datetime, os
from dongled.agent.policy import clock
def wall():
    with open(os.environ["WALL_OFFSET"]) as file:
        offset = float(file.read() or 0)
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset)
clock.TrustedClock.__init__.__kwdefaults__["wall"] = wall
"""


@pytest.fixture
def offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seconds by which the clocks of the daemons started from now on are ahead."""
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(PATCH)
    (tmp_path / "offset").write_text("0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "patch"))
    monkeypatch.setenv("WALL_OFFSET", str(tmp_path / "offset"))
    return tmp_path / "offset"


def until_time(of: Running, reason: str) -> None:
    def told(_: object) -> bool:
        time = of.status().time
        return time is not None and time.reason == reason

    of.until(told)


def test_a_clock_set_back_admits_nobody_and_ends_nothing(
    company: Company, launch: Launch, offset: Path
) -> None:
    other = company.cast("other")
    one = f'allow-viewers = ["{company.viewer.urn}"]'
    camera = launch("camera", changes={one: f'allow-viewers = ["{company.viewer.urn}", "{other.urn}"]'})
    viewer = launch("viewer")
    seen = viewer.until(lambda meeting: opened(meeting) > 0)

    offset.write_text(str(-DAY))
    until_time(camera, "time-below-floor")
    late = launch("other")
    camera.until(lambda meeting: set(meeting.refused) & {"time-below-floor"})
    assert opened(late.status().meetings[0]) == 0
    came = watching(viewer.until(lambda meeting: opened(meeting) > opened(seen) + 10))
    assert came is not None
    assert came.frames_failed == {}

    offset.write_text("0")
    until_time(camera, "")
    # Who was refused is judged again by its next round; who comes now, at once.
    assert late.stop() == 0
    launch("other", "other-again").until(lambda meeting: opened(meeting) > 0)
    assert camera.status().meetings[0].session == came.session


def test_a_clock_a_year_ahead_grants_nothing_and_is_forgotten_with_the_process(
    launch: Launch, offset: Path
) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    offset.write_text(str(400 * DAY))
    late = launch("other")
    camera.until(lambda meeting: set(meeting.refused) & {"expired", "certificate-expired", "chain-expired"})
    assert opened(late.status().meetings[0]) == 0
    assert camera.stop() == 0
    offset.write_text("0")
    again = launch("camera", "camera-again")
    until_time(again, "")
