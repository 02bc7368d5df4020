"""Are the settings valid, and what is allowed in them and weak?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, Level, fatal, of_error, ok, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.config.api import settings_warnings


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None:
        assert case.trouble is not None
        if not case.trouble.problems:
            return [of_error(case.trouble, level=Level.FATAL)]
        return [fatal(str(problem), case.trouble.hint) for problem in case.trouble.problems]
    weak = settings_warnings(case.settings)
    return [warning(f"{each.text} [{each.id}]", each.hint) for each in weak] or [ok("valid")]


CHECK = Check("config", "The configuration is valid, and nothing in it is weak", look)
