"""How many wrong PINs may still come, as far as the token tells?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Finding, fatal, ok, warning
from dongled.agent.doctor.token.case import Part, TokenCase, check


async def look(case: TokenCase, part: Part) -> Iterable[Finding]:
    token = (await case.token(part)).info
    if token.pin_locked:
        return [fatal("the PIN is locked", "unblock it with the PUK or the security officer's PIN")]
    if token.pin_final_try:
        text = "one more wrong PIN locks it, so the daemon tries none"
        return [fatal(text, "log in once with the right PIN and the token's own tool")]
    if token.pin_count_low:
        text = "a wrong PIN was given since the last login"
        return [warning(text, "find out who did: the next login with the right one makes up for it")]
    return [ok("no wrong PIN since the last login, as far as it tells")]


CHECK = check("token-tries", "The PIN may be tried", look)
