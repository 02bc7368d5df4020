"""Is there room where state, the audit log and recordings are written, and may they be written?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, failed, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.health import registry
from dongled.agent.health.disks import directories, look_at
from dongled.agent.health.rules import nearly_full


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None:
        return [skipped("the settings cannot be used")]
    state = case.settings.state.directory
    found = []
    if state.exists() and not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        hint = "run this as the daemon's user, or give that user the directory"
        found.append(failed("it cannot be read and written by who asks", hint, about=str(state)))
    for disk in await asyncio.to_thread(look_at, directories(case.settings)):
        text = f"{disk.free >> 20} MiB are free of {disk.size >> 20}"
        low = warning(text, registry.DISK_NEARLY_FULL.hint, about=disk.path)
        found.append(low if nearly_full(disk) else ok(text, about=disk.path))
    return found


CHECK = Check("disk", "There is room for state and recordings", look)
