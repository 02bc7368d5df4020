"""Does the daemon run, and what does it warn of?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, fatal, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.systemd import shown
from dongled.agent.units import unit_of
from dongled.config.api import settings_warnings


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.daemon is None:
        if not case.occupied and (failure := await _failure(unit_of(case.instance))):
            return [failure]
        error = case.unasked
        text = "was not asked" if error is None else f"was not asked: {error} [{error.reason}]"
        return [skipped(text, "" if error is None else error.hint)]
    told = settings_warnings(case.settings) if case.settings else []
    known = {(each.id, each.text) for each in told}
    live = [each for each in case.daemon.warnings if (each.id, each.text) not in known]
    return [warning(f"{each.text} [{each.id}]", each.hint) for each in live] or [
        ok(f"runs as process {case.daemon.pid}, and warns of nothing more")
    ]


async def _failure(unit: str) -> Finding | None:
    """What systemd says of a service that has ended for good; None where it says no such thing."""
    told = await shown(unit, "ActiveState", "Result", "ExecMainStatus")
    if told.get("ActiveState") != "failed":
        return None
    text = f"the service has failed: {told.get('Result')}, exit status {told.get('ExecMainStatus')}"
    return fatal(text, f"`journalctl -u {unit}` says why; then `systemctl restart {unit}`")


CHECK = Check("daemon", "The daemon runs and is content", look)
