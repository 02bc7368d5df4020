"""Does the token's module load, and see tokens?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Finding, ok
from dongled.agent.doctor.token.case import Part, TokenCase, check


async def look(case: TokenCase, part: Part) -> Iterable[Finding]:
    count = sum(token.info.initialized for token in await case.found(part))
    return [ok(f"{part.place().module} loads; tokens: {count}")]


CHECK = check("token-module", "The token's PKCS#11 module loads", look)
