"""Is the one token there that the URI names?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Finding, ok
from dongled.agent.doctor.token.case import Part, TokenCase, check


async def look(case: TokenCase, part: Part) -> Iterable[Finding]:
    token = await case.token(part)
    where = token.names.get("slot-description", "")
    return [ok(f"{token.info.label!r}, serial {token.info.serial}, in {where!r}")]


CHECK = check("token-there", "The token that the URI names is there", look)
