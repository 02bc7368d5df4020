"""Cards and pcscd come and go, and the watch over the readers tells, without asking a card for anything."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pytest

from dongled.tokens.readers import Cards, Readers, _Failed
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


_BESIDE_A_HANGING_PCSCD = """
import asyncio, sys
from dongled.tokens import readers as module
from dongled.tokens.readers import Readers

async def main():
    module._SILENT_AFTER = float(sys.argv[1])
    readers = Readers()
    await readers.start()
    print(*readers.cards, sep=",", flush=True)
    if readers.cards:
        await readers.change()
        print(*readers.cards, sep=",", flush=True)
        await readers.change()
        print(*readers.cards, sep=",", flush=True)
    await readers.close()
    print("closed", flush=True)

asyncio.run(main())
"""


@contextmanager
def beside_a_hanging_pcscd(path: Path, silent_after: float) -> Iterator[IO[str]]:
    """What a process says that watches there, and is killed where it hangs too."""
    with subprocess.Popen(
        [sys.executable, "-c", _BESIDE_A_HANGING_PCSCD, str(silent_after)],
        env={**os.environ, SOCKET_VARIABLE: str(path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        overdue = threading.Timer(_PATIENCE, watching.kill)
        overdue.start()
        try:
            yield watching.stdout
        finally:
            overdue.cancel()
            watching.kill()


@pytest.mark.fault("pcscd hangs")
def test_a_pcscd_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "mute"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with beside_a_hanging_pcscd(path, 0.3) as said:
            assert said.readlines() == ["\n", "closed\n"]


@pytest.mark.fault("pcscd hangs")
def test_the_cards_of_a_pcscd_that_hangs_are_gone(blank: PivCard) -> None:
    with beside_a_hanging_pcscd(blank.daemon.path, 3.0) as said:
        assert said.readline() == f"{FIRST}\n"
        with blank.daemon.stopped():
            assert said.readline() == "\n"
        assert said.readlines() == [f"{FIRST}\n", "closed\n"]


class Answering:
    """libpcsclite as far as it is asked here; ``codes`` are what SCardGetStatusChange returns in turn."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    def SCardListReaders(self, context: object, groups: object, names: Any, size: Any) -> int:
        names.raw = f"{FIRST}\0\0".encode().ljust(len(names), b"\0")
        return 0

    def SCardGetStatusChange(self, context: object, timeout: Any, states: Any, count: int) -> int:
        assert timeout.value == 0, "a wait could hang"
        self.asked += 1
        states[1].event = 0x20
        return self.codes.pop(0)


def test_a_reader_that_goes_takes_no_other_card_with_it() -> None:
    unknown_reader, no_service = 0x80100009, 0x8010001D
    readers, told = Readers(), []
    readers._library = Answering(0, unknown_reader, 0, no_service)
    with pytest.raises(_Failed):
        readers._follow(ctypes.c_long(), 7, lambda cards, _: told.append(cards))
    assert readers._library.asked == 4
    assert told == [{FIRST: (7, 0)}] * 2


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
