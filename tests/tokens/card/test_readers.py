"""Cards and pcscd come and go, and the watch over the readers tells, without asking a card for anything."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from dongled.tokens.readers import Cards, Readers
from support.card import bench, watching
from support.card.bench import PivCard
from support.card.pcscd import READER, SOCKET_VARIABLE, Pcscd
from tokens.bench import new_pin

_PATIENCE = 15.0
# pcscd looks at a virtual reader every 0.4 s; three times what is promised.
_SEEN_WITHIN = 3 * 0.5

FIRST, SECOND = f"{READER} 00 00", f"{READER} 00 01"


class Watch:
    """A process that watches; ``cards`` is what it said last."""

    def __init__(self, said: asyncio.StreamReader) -> None:
        self._said = said
        self.cards: Cards = {}

    async def until(self, what: Callable[[Cards], object]) -> Cards:
        async with asyncio.timeout(_PATIENCE):
            while not what(self.cards):
                self.cards = json.loads(await self._said.readline())
        return self.cards


@asynccontextmanager
async def watch(daemon: Pcscd) -> AsyncIterator[Watch]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        watching.__file__,
        env={**os.environ, SOCKET_VARIABLE: str(daemon.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    made = Watch(process.stdout)
    made.cards = json.loads(await made._said.readline())
    try:
        yield made
    finally:
        process.kill()
        await process.wait()
        # Its pipe is closed by the loop, soon.
        await asyncio.sleep(0)


@pytest.mark.fault("removal seen without a token operation")
async def test_removal_and_insertion(blank: PivCard) -> None:
    async with watch(blank.daemon) as readers:
        seen = [readers.cards]
        assert list(readers.cards) == [FIRST]
        for _ in range(3):
            exchanged = len(blank.inserted.exchanged)
            pulled = time.monotonic()
            blank.inserted.pull()
            await readers.until(lambda cards: not cards)
            assert time.monotonic() - pulled < _SEEN_WITHIN
            await asyncio.to_thread(blank.insert)
            seen.append(await readers.until(lambda cards: cards))
            assert len(blank.inserted.exchanged) == exchanged
    assert len({json.dumps(cards) for cards in seen}) == len(seen), "each insertion is told from the others"


async def test_two_cards_are_told_apart(blank: PivCard) -> None:
    other = bench.piv_card(blank.daemon, new_pin(), new_pin(), slot=1)
    async with watch(blank.daemon) as readers:
        first = readers.cards
        await asyncio.to_thread(other.insert)
        both = await readers.until(lambda cards: len(cards) == 2)
        assert both[FIRST] == first[FIRST]
        assert SECOND in both
        other.inserted.pull()
        assert await readers.until(lambda cards: len(cards) == 1) == first


@pytest.mark.fault("pcscd killed and restarted")
async def test_pcscd_goes_and_comes(blank: PivCard) -> None:
    async with watch(blank.daemon) as readers:
        for _ in range(2):
            before = readers.cards
            await asyncio.to_thread(blank.daemon.stop)
            await readers.until(lambda cards: not cards)
            blank.inserted.pull()
            await asyncio.to_thread(blank.daemon.start)
            await asyncio.to_thread(blank.insert)
            assert await readers.until(lambda cards: cards) != before


async def test_without_pcscd_there_is_nothing(daemon: Pcscd) -> None:
    daemon.stop()
    async with watch(daemon) as readers:
        assert not readers.cards


async def test_without_the_library_there_is_nothing() -> None:
    readers = Readers("libno-such.so.1")
    await readers.start()
    await readers.start()
    assert not readers.cards
    await readers.close()


@pytest.mark.parametrize(
    ("cards", "name", "found"),
    [
        ([FIRST], FIRST, FIRST),
        ([FIRST, SECOND], SECOND, SECOND),
        ([FIRST], "Yubico", FIRST),
        ([FIRST, SECOND], "Yubico", None),
        ([FIRST, FIRST + "0"], FIRST, FIRST),
        ([FIRST], "another", None),
        ([], FIRST, None),
        ([FIRST], "", None),
    ],
)
def test_a_slot_is_found_by_a_name_cut_short(cards: list[str], name: str, found: str | None) -> None:
    readers = Readers()
    readers._publish(cast(Cards, dict.fromkeys(cards, (0, 1))))
    assert readers.holding(name) == found
