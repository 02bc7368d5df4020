"""A token as slow as a card has more to do than it can: what comes first, and who waits for whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens.api import Rank
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import OpenedToken, open_token
from dongled.tokens.turns import QUOTA, Place, Turns
from support.slow_module import OPERATION, build_slow_module
from tokens.bench import SoftToken, point_of

POINT = point_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def slow_module(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_slow_module(tmp_path_factory.mktemp("slow"))


@pytest.fixture
async def slow(token: SoftToken, slow_module: str) -> AsyncIterator[OpenedToken]:
    keys = await open_token(slow_module, token.uri, replace(token, module=slow_module).pin)
    yield keys
    await keys.close()


class Served:
    """Asks for operations; ``order`` is that in which they were done."""

    def __init__(self, keys: OpenedToken) -> None:
        self.keys = keys
        self.order: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def derive(self, peer: str) -> asyncio.Task[None]:
        return self._ask(peer, self.keys.derive(POINT, peer))

    def sign(self, rank: Rank) -> asyncio.Task[None]:
        return self._ask(rank.name.lower(), self.keys.sign(bytes(32), rank))

    def _ask(self, name: str, work: Awaitable[bytes]) -> asyncio.Task[None]:
        async def run() -> None:
            await work
            self.order.append(name)

        self._tasks.append(asyncio.create_task(run()))
        return self._tasks[-1]

    async def drop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.property("P13")
async def test_a_beacon_waits_for_one_operation_however_many_grants_there_are(slow: OpenedToken) -> None:
    served = Served(slow)
    for n in range(63):
        served.derive(f"peer {n}")
    await asyncio.sleep(0)
    served.sign(Rank.ANNOUNCEMENT)
    beacon, began = served.sign(Rank.BEACON), time.monotonic()
    await asyncio.wait_for(beacon, 60)
    took = time.monotonic() - began
    await asyncio.sleep(2.5 * OPERATION)
    await served.drop()
    # The one that the token had begun; then the beacon, the announcement, and the others in turn.
    assert served.order[:3] == ["peer 0", "beacon", "announcement"]
    assert served.order[3:] == [f"peer {n}" for n in range(1, len(served.order) - 2)]
    # First come, first served would take 64 operations.
    assert took < 64 * OPERATION / 2


async def test_one_peer_s_flood_delays_another_by_one_operation(slow: OpenedToken) -> None:
    served = Served(slow)
    flood = [served.derive("greedy") for _ in range(3 * QUOTA)]
    await asyncio.sleep(0)
    honest = [served.derive(name) for name in ("honest", "another")]
    await asyncio.wait_for(asyncio.gather(*honest), 30)
    assert served.order == ["greedy", "honest", "another"]
    refused = [task.exception() for task in flood if task.done()]
    # One is being done, as many wait as may.
    errors = [error.reason for error in refused if isinstance(error, TokenError)]
    assert errors == ["token-quota"] * (2 * QUOTA)
    await served.drop()


async def test_what_nobody_waits_for_any_more_costs_the_token_nothing(slow: OpenedToken) -> None:
    served = Served(slow)
    kept = served.derive("a")
    dropped = [served.derive("b") for _ in range(QUOTA)]
    await asyncio.sleep(0)
    for task in dropped:
        task.cancel()
    await asyncio.gather(*dropped, return_exceptions=True)
    # Its quota is free again.
    last = [served.derive("b") for _ in range(QUOTA)]
    await asyncio.wait_for(asyncio.gather(kept, *last), 30)
    assert slow.operations.derive == 1 + QUOTA


async def test_one_operation_at_a_time(slow: OpenedToken) -> None:
    began = time.monotonic()
    await asyncio.gather(*(slow.derive(POINT, f"peer {n}") for n in range(6)))
    assert time.monotonic() - began >= 6 * OPERATION


async def test_who_waits_is_told_when_the_token_is_closed(token: SoftToken, slow_module: str) -> None:
    keys = await open_token(slow_module, token.uri, token.pin)
    served = Served(keys)
    asked = [served.derive(f"peer {n}") for n in range(3)] + [served.sign(Rank.BEACON)]
    await asyncio.sleep(0)
    await keys.close()
    for task in asked:
        with suppress(asyncio.CancelledError):
            error = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)
            assert isinstance(error[0], TokenError)
            assert error[0].reason == "token-closed"


async def test_turns() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.put(item, Place(Rank.GRANT, item[0]))
    turns.put("announce", Place(Rank.ANNOUNCEMENT))
    turns.put("beacon", Place(Rank.BEACON))
    turns.leave("a2", Place(Rank.GRANT, "a"))
    turns.leave("a2", Place(Rank.GRANT, "a"))
    turns.leave("nothing", Place(Rank.GRANT, "nobody"))
    assert [await turns.next() for _ in range(4)] == ["beacon", "announce", "a1", "b1"]
    # Who comes again goes to the end.
    turns.put("b3", Place(Rank.GRANT, "b"))
    assert [await turns.next() for _ in range(4)] == ["c1", "a3", "b2", "b3"]
    waiting = asyncio.create_task(turns.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    turns.put("late", Place(Rank.BEACON))
    assert await waiting == "late"
    # A terminal's own operations have no quota: nobody else asks for them.
    for n in range(3 * QUOTA):
        turns.put(str(n), Place(Rank.ANNOUNCEMENT))
    assert turns.drain() == [str(n) for n in range(3 * QUOTA)]
    assert turns.drain() == []
