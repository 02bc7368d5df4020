"""A meeting is joined again after each loss, as a new session, and not faster and faster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from dongled.agent.errors import AgentError
from dongled.agent.meetings import meeting as meeting_module
from dongled.agent.meetings.journal import LOG_INTERVAL, Journal
from dongled.agent.meetings.meeting import BACKOFF_FIRST, BACKOFF_MOST, SETTLED, TELL_EVERY, Meeting
from dongled.capture.errors import CaptureError
from dongled.config.api import MeetingSettings
from dongled.media.errors import MediaError

SETTINGS = MeetingSettings.model_validate(
    {"name": "demo", "room": "demo", "sfu": {"url": "ws://127.0.0.1:1"}}
)


class ScriptedSession:
    """Joins or not, holds for some (injected) seconds, and ends as it was told."""

    def __init__(
        self, name: str, clock: list[float], outcome: str | Exception, joins: bool, holds: float
    ) -> None:
        self.name = name
        self._clock, self._outcome, self._joins, self._holds = clock, outcome, joins, holds

    async def run(self, joined: Callable[[], None]) -> str:
        if self._joins:
            joined()
        self._clock[0] += self._holds
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def pauses_between(
    monkeypatch: pytest.MonkeyPatch, script: list[tuple[str | Exception, bool, float]]
) -> tuple[list[float], list[str], Meeting]:
    """Runs the script; the longest pause that could have been before each next session, and their names."""
    clock: list[float] = [100.0]
    pauses: list[float] = []
    names: list[str] = []
    monkeypatch.setattr(meeting_module, "boottime", lambda: clock[0])
    monkeypatch.setattr(random, "uniform", lambda low, high: high)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == len(script):
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)

    def open_session() -> ScriptedSession:
        outcome, joins, holds = script[len(names)]
        names.append(f"session-{len(names)}")
        return ScriptedSession(names[-1], clock, outcome, joins, holds)

    meeting = Meeting(SETTINGS, open_session, Journal("demo"))
    with pytest.raises(asyncio.CancelledError):
        await meeting.run()
    return pauses, names, meeting


async def test_each_try_is_a_new_session_and_pauses_grow_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = AgentError("unauthorized", "no")
    pauses, names, meeting = await pauses_between(monkeypatch, [(refused, False, 0.0)] * 7)
    assert pauses == [min(BACKOFF_MOST, BACKOFF_FIRST * 2**n) for n in range(7)]
    assert len(set(names)) == 7
    assert (meeting.state, meeting.why) == ("waiting", "no [unauthorized]")


async def test_an_sfu_that_is_away_for_days_is_still_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 to the power of so many tries is no float.
    pauses, _, _ = await pauses_between(
        monkeypatch, [(AgentError("sfu-unreachable", "no"), False, 0.0)] * 1100
    )
    assert pauses[-1] == BACKOFF_MOST


async def test_a_session_that_cannot_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[None] = []

    def open_session() -> ScriptedSession:
        made.append(None)
        raise CaptureError("camera-absent", "gone")

    async def sleep(seconds: float) -> None:
        if len(made) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    meeting = Meeting(SETTINGS, open_session, Journal("demo"))
    with pytest.raises(asyncio.CancelledError):
        await meeting.run()
    assert (meeting.state, meeting.why, meeting.session) == ("waiting", "gone [camera-absent]", None)


async def test_a_session_that_held_starts_the_backoff_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    short = ("lost", True, SETTLED / 2)
    long = ("lost", True, SETTLED * 2)
    pauses, _, _ = await pauses_between(monkeypatch, [short, short, long, short])
    assert pauses == [BACKOFF_FIRST, BACKOFF_FIRST * 2, BACKOFF_FIRST, BACKOFF_FIRST * 2]


async def test_any_rooms_error_is_survived_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, meeting = await pauses_between(monkeypatch, [(MediaError("bad-sdp", "what?"), False, 0.0)])
    assert meeting.why == "what? [bad-sdp]"
    assert meeting.joined_at is None


async def test_a_defect_is_told_whole_and_costs_one_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses, names, meeting = await pauses_between(
        monkeypatch, [(ValueError("beyond the end"), True, 0.0)] * 2
    )
    assert (len(names), pauses) == (2, [BACKOFF_FIRST, BACKOFF_FIRST * 2])
    assert meeting.why == "beyond the end [defect]"
    assert caplog.text.count("Traceback") == 2


async def test_the_same_failure_is_told_once_a_minute_and_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = AgentError("sfu-unreachable", "nobody answers", "start it")
    other = AgentError("no-such-room", "no room")
    script: list[tuple[str | Exception, bool, float]] = [(gone, False, TELL_EVERY / 4)] * 9
    script += [(other, False, 0.0), ("lost", True, 0.0)]
    _, _, meeting = await pauses_between(monkeypatch, script)
    told = "not joined: nobody answers [sfu-unreachable]; start it"
    events = [event for event in meeting.journal.events if event != "joined the room"]
    assert events == [told, told, told, "not joined: no room [no-such-room]", "left the room: lost"]
    assert (meeting.why, meeting.hint) == ("lost", "")


@pytest.mark.property("P14")
def test_a_flood_of_refusals_is_counted_in_full_and_logged_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = Journal("demo")
    for number in range(1000):
        journal.refusal("quota", "too many", "evil\nsource", number * LOG_INTERVAL / 500)
    assert journal.refused == {"quota": 1000}
    assert 2 <= len(caplog.records) <= 3
    assert "\n" not in caplog.records[0].getMessage()
