"""That a loop which is held up would be noticed."""

from __future__ import annotations

import asyncio
import time

from support.lag import MOST, lag_until


async def test_a_loop_that_is_held_up_is_noticed() -> None:
    waiting = asyncio.create_task(asyncio.sleep(0.1))
    asyncio.get_running_loop().call_later(0.02, time.sleep, 2 * MOST)
    assert await lag_until(waiting) > MOST
