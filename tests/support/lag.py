"""How long an event loop was kept from turning, on a machine that has other things to do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

# 50 ms, three times that on a busy machine; seconds.
MOST = 0.15
_ASK_EVERY = 0.005


async def lag_until(asked: asyncio.Task[Any]) -> float:
    """The longest pause, in seconds, until the task is done.

    What this process' threads waited for a processor meanwhile is no fault of its own, and is taken off.
    """
    loop = asyncio.get_running_loop()
    worst, last, waited = 0.0, loop.time(), _waited()
    while not asked.done():
        await asyncio.sleep(_ASK_EVERY)
        now, waited_now = loop.time(), _waited()
        starved = sum(max(0, wait - waited.get(thread, 0)) for thread, wait in waited_now.items()) / 1e9
        worst = max(worst, now - last - starved)
        last, waited = now, waited_now
    return worst


def _waited() -> dict[str, int]:
    """Nanoseconds on a run queue, by thread: kernel documentation, sched-stats, /proc/<pid>/schedstat."""
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        # It may have ended just now.
        with suppress(OSError):
            found[thread.name] = int((thread / "schedstat").read_text().split()[1])
    return found
