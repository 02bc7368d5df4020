"""The token's own checks, as far as no PIN is tried and no daemon is disturbed: one that runs is asked."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, failed, ok, skipped
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.token import WITHOUT_PIN, pin, there
from dongled.agent.doctor.token.case import TokenCase, token_case
from dongled.agent.status import TokenStatus
from dongled.tokens.ledger import MemoryLedger


def _of(check: Check[TokenCase]) -> Check[TerminalCase]:
    async def look(case: TerminalCase) -> Iterable[Finding]:
        if case.settings is None or case.settings.token is None:
            return [skipped("no token is configured")]
        # How the PIN is kept is seen without the token.
        if case.occupied and check.id != pin.CHECK.id:
            if check.id == there.CHECK.id and case.daemon is not None:
                return [_told(case.daemon.token)]
            return [skipped("a daemon uses it")]
        return await check.look(token_case(case.settings, MemoryLedger(), occupied=case.occupied))

    return Check(check.id, check.title, look, check.patience)


def _told(token: TokenStatus) -> Finding:
    if token.state == "READY":
        return ok(f"the daemon has it open: {token.uri}")
    hint = "the daemon goes on by itself once it can; `dongled status` shows its state"
    return failed(f"it is {token.state}: {token.why}", hint)


CHECKS = tuple(_of(check) for check in WITHOUT_PIN)
