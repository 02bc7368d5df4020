"""Is there a time that certificates can be judged by? Without one nobody is granted anything."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, Level, of_error, ok, skipped
from dongled.agent.doctor.case import TerminalCase


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None or all(meeting.encryption == "plain" for meeting in case.settings.meeting):
        return [skipped("no meeting needs it")]
    clock = wiring.open_clock(case.settings)
    refusal = clock.refusal()
    if refusal is not None:
        return [of_error(refusal, level=Level.FATAL)]
    return [ok(f"{clock.now():%Y-%m-%d %H:%M} UTC, after the floor of {clock.floor:%Y-%m-%d %H:%M}")]


CHECK = Check("clock", "The time can be trusted", look)
