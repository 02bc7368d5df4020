"""Are the keys there, those that are pinned, made on the token and never to leave it?"""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Finding, Level, of_error, ok
from dongled.agent.doctor.token.case import Part, TokenCase, opened_check
from dongled.agent.wiring import key_pin
from dongled.tokens.checks import the_key
from dongled.tokens.errors import TokenError
from dongled.tokens.session import TokenSession


async def look(case: TokenCase, part: Part, session: TokenSession) -> Iterable[Finding]:
    found, findings = await session.found_keys(), []
    for role in part.roles:
        try:
            key, _ = the_key(role, found, key_pin(case.pin(role)), session.quirks)
        except TokenError as error:
            findings.append(of_error(error, role.value, Level.FATAL))
        else:
            text = f"{key.cka_id.hex()} as pinned, made on the token, sensitive, never extractable"
            findings.append(ok(text, role.value))
    return findings


CHECK = opened_check("token-keys", "The keys are the pinned ones, and stay on the token", look)
