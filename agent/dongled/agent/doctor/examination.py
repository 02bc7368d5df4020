"""Runs checks one after the other: a small device has no cores to spare, and people read from the top."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from dongled.agent.doctor.api import Case, Check, Finding, Result, failed, of_error, ok

_DEFECT = "this is a fault of the check: report it with this text and 'dongled --version'"


async def examine(checks: Sequence[Check[Case]], case: Case) -> AsyncIterator[Result]:
    """Each check's result as soon as it is there. A check that hangs or fails stops no other."""
    for check in checks:
        yield Result(check.id, check.title, tuple(await _look(check, case)))


async def _look(check: Check[Case], case: Case) -> list[Finding]:
    try:
        async with asyncio.timeout(check.patience):
            return list(await check.look(case)) or [ok("nothing to find fault with")]
    except TimeoutError:
        return [failed(f"no result within {check.patience:g} s", "try again; what it waits for may hang")]
    except Exception as error:  # noqa: BLE001 - the others are still worth running
        if hasattr(error, "reason") and hasattr(error, "hint"):
            return [of_error(error)]
        return [failed(f"the check broke: {type(error).__name__}: {error}", _DEFECT)]
