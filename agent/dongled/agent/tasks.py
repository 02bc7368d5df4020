"""Tasks that belong to one owner and end with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from dongled.agent.clock import boottime

log = logging.getLogger(__name__)
T = TypeVar("T")

# What failed is begun again after a pause between nothing and this, which doubles; seconds.
AGAIN_FIRST = 1.0
AGAIN_MOST = 300.0


class OwnedTasks:
    """Runs coroutines for an owner; ``failed`` is told the exception of each that was not cancelled."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = failed

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def aside(work: Callable[[], None]) -> None:
    """Do it in a thread which, unlike those of ``asyncio.to_thread``, no end of the process waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failed: Exception | None = None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            failed = error
        # Nobody waits any more where the loop is closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, failed)

    threading.Thread(target=run, name="aside", daemon=True).start()
    await done


async def keep_going(what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it, and again whenever it fails by what is a defect of ours, until it ends or is cancelled."""
    pause = AGAIN_FIRST
    while True:
        began = boottime()
        try:
            return await run()
        except Exception as error:
            log.error("%s failed, and is begun again", what, exc_info=error)
        if boottime() - began > AGAIN_MOST:
            pause = AGAIN_FIRST
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(AGAIN_MOST, 2 * pause)
