"""Is there room where state, the audit log and recordings are written?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.health import registry
from dongled.agent.health.disks import directories, look_at
from dongled.agent.health.rules import nearly_full


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None:
        return [skipped("the settings cannot be used")]
    found = []
    for disk in await asyncio.to_thread(look_at, directories(case.settings)):
        text = f"{disk.free >> 20} MiB are free of {disk.size >> 20}"
        low = warning(text, registry.DISK_NEARLY_FULL.hint, about=disk.path)
        found.append(low if nearly_full(disk) else ok(text, about=disk.path))
    return found


CHECK = Check("disk", "There is room for state and recordings", look)
