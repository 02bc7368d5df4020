"""The token's own checks, as far as no PIN is tried and no daemon is disturbed."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.token import WITHOUT_PIN
from dongled.agent.doctor.token.case import TokenCase, token_case
from dongled.tokens.ledger import MemoryLedger


def _of(check: Check[TokenCase]) -> Check[TerminalCase]:
    async def look(case: TerminalCase) -> Iterable[Finding]:
        if case.settings is None or case.settings.token is None:
            return [skipped("no token is configured")]
        if case.occupied:
            return [skipped("a daemon uses it", "`dongled status` shows its state")]
        return await check.look(token_case(case.settings, MemoryLedger(), occupied=False))

    return Check(check.id, check.title, look, check.patience)


CHECKS = tuple(_of(check) for check in WITHOUT_PIN)
