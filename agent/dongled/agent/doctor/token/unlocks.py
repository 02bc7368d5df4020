"""Does the PIN open the token? One that was refused before is not tried again."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Finding, Level, of_error, ok, skipped
from dongled.agent.doctor.token.case import Part, TokenCase, check
from dongled.tokens.errors import TokenError


async def look(case: TokenCase, part: Part) -> Iterable[Finding]:
    if case.occupied:
        return [skipped("a daemon uses it", "`dongled status` shows it; stop the daemon to look closer")]
    try:
        session = await case.session(part)
    except TokenError as error:
        return [of_error(error, level=Level.FATAL)]
    return [ok(f"the PIN opens {session.token.uri}")]


CHECK = check("token-unlocks", "The PIN opens the token", look)
