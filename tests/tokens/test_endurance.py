"""What takes long: a thousand dead workers, and many tasks that sign and derive at once.

``--long`` plays them at full length; without it, as long as shows what grows.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens.opened import open_token
from tokens.bench import SoftToken, point_of, wait_gone
from tokens.test_faults import FakeClock, worker_of
from tokens.test_opened import public, verify

TASKS = 16


@pytest.mark.timeout(1800)
@pytest.mark.fault("respawned again and again")
async def test_respawns_leak_nothing(token: SoftToken, pytestconfig: pytest.Config) -> None:
    clock = FakeClock()
    opened = await open_token(token.module, token.uri, token.pin, clock=clock)
    counts = set()
    for number in range(1000 if pytestconfig.getoption("--long") else 20):
        before = worker_of(opened)
        os.kill(before, signal.SIGKILL)
        assert await asyncio.to_thread(wait_gone, before)
        verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
        clock.time += 120
        # The first wait makes the thread that waits.
        if number:
            counts.add((len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())))
    assert len(counts) == 1
    await opened.close()


@pytest.mark.timeout(1800)
@pytest.mark.fault("16 tasks at once")
async def test_many_tasks_get_their_own_answers(token: SoftToken, pytestconfig: pytest.Config) -> None:
    opened = await open_token(token.module, token.uri, token.pin)
    total = 100_000 if pytestconfig.getoption("--long") else 4_000
    data = public(opened.data)

    async def task(number: int) -> None:
        peer = ec.generate_private_key(ec.SECP256R1())
        point, shared = point_of(peer), peer.exchange(ec.ECDH(), data)
        for turn in range(total // TASKS):
            if turn % 4 == 3:
                assert await opened.derive(point, f"peer {number}") == shared
            else:
                digest = hashlib.sha256(f"{number} {turn}".encode()).digest()
                verify(opened.identity, await opened.sign(digest), digest)

    async with asyncio.TaskGroup() as group:
        for number in range(TASKS):
            group.create_task(task(number))
    assert opened.operations.sign + opened.operations.derive == total // TASKS * TASKS
    await opened.close()
