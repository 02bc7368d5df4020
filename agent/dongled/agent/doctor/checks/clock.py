"""Is there a time that certificates can be judged by? Without one nobody is granted anything."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, Level, fatal, of_error, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.policy.clock import TimeSource

_LOOK = "see: chronyc -n sources, chronyc -n authdata, and systemctl status dongled-time.socket"
_CONFIRM = "set the clock if it is wrong, then: dongled confirm-time"


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None or all(meeting.encryption == "plain" for meeting in case.settings.meeting):
        return [skipped("no meeting needs it")]
    told = case.daemon.time if case.daemon is not None else None
    if told is not None and told.trusted:
        return [ok(f"the running daemon believes it ({told.source})")]
    clock = await wiring.asked_clock(case.settings)
    refusal = clock.refusal()
    if clock.source is TimeSource.OPERATOR and case.daemon is None:
        return [warning("an operator has to vouch for it each time that the daemon starts", _CONFIRM)]
    if told is not None:
        hint = _CONFIRM if refusal is None else refusal.hint
        if clock.source is TimeSource.NTS and (refusal is None or refusal.reason != told.reason):
            hint = _LOOK
        return [fatal(f"{told.why} [{told.reason}]", hint)]
    if refusal is not None:
        return [of_error(refusal, level=Level.FATAL)]
    return [ok(f"{clock.now():%Y-%m-%d %H:%M} UTC, after the floor of {clock.floor:%Y-%m-%d %H:%M}")]


CHECK = Check("clock", "The time can be trusted", look)
