"""The process around a daemon: signals, logging, and no traces of its memory."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import resource
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from dongled.agent.logs.setup import set_up
from dongled.agent.notify import Notifier

# <linux/prctl.h>: neither core dumps nor another process of the same user may read our memory.
_PR_SET_DUMPABLE = 4


def harden() -> None:
    """Keep keys out of core dumps (docs/protocol.md, Keys)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def run_until_stopped(
    work: Coroutine[Any, Any, None], *, verbose: bool = False, hangup: Callable[[], None] | None = None
) -> None:
    """Run to the end or to SIGTERM or SIGINT, which end it cleanly. Raises what ``work`` raises.

    ``hangup`` is called at SIGHUP, which otherwise ends the process as it ends any other.
    """
    harden()
    # The watchdog ends a process that hangs by SIGABRT: say where it hung.
    faulthandler.enable()
    set_up(verbose=verbose)
    asyncio.run(_until_stopped(work, hangup))


async def _until_stopped(work: Coroutine[Any, Any, None], hangup: Callable[[], None] | None) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        Notifier().tell(STOPPING="1")
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, hangup)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise
