"""Does the daemon run, and what does it warn of?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.config.api import settings_warnings


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.daemon is None:
        error = case.unasked
        text = "was not asked" if error is None else f"was not asked: {error} [{error.reason}]"
        return [skipped(text, "" if error is None else error.hint)]
    told = settings_warnings(case.settings) if case.settings else []
    known = {(each.id, each.text) for each in told}
    live = [each for each in case.daemon.warnings if (each.id, each.text) not in known]
    return [warning(f"{each.text} [{each.id}]", each.hint) for each in live] or [
        ok(f"runs as process {case.daemon.pid}, and warns of nothing more")
    ]


CHECK = Check("daemon", "The daemon runs and is content", look)
