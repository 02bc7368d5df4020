"""A card that is slow, full, or in another program's hands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from cryptography import x509

from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.opened import open_token
from support.card import bench, piv_management
from support.card.bench import YKCS11, PivCard
from support.card.pcscd import READER
from support.lag import MOST, lag_until
from tokens.bench import answering, wait_gone
from tokens.card.test_card_terminal import MODULES, check_works, opened_card, refused, uri_of
from tokens.test_faults import worker_of
from tokens.test_opened import verify
from tokens.test_provision import certify

_GENERAL_AUTHENTICATE, _GENERATE, _PUT_DATA = 0x87, 0x47, 0xDB
# ISO 7816-4, 5.1.5: not enough memory; security status not satisfied, as of a card that takes no changes.
_FULL, _READ_ONLY = 0x6A84, 0x6982
_SLOW = 1.5


@MODULES
@pytest.mark.fault("a card that takes 1.5 s")
async def test_a_slow_card_works_and_holds_nobody_up(card: PivCard, module: str) -> None:
    opened = await opened_card(card, module)

    def slowly(response: bytes) -> bytes:
        time.sleep(_SLOW)
        return response

    with card.inserted.spoiling(_GENERAL_AUTHENTICATE, slowly):
        begun = time.monotonic()
        asked = asyncio.create_task(opened.sign(b"d" * 32))
        assert await lag_until(asked) < MOST
        verify(opened.identity, await asked, b"d" * 32)
        assert time.monotonic() - begun >= _SLOW
        await check_works(opened, card)
    await opened.close()


@MODULES
@pytest.mark.fault("a card held exclusively")
async def test_a_card_that_another_program_holds(card: PivCard, module: str) -> None:
    uri, ledger = await uri_of(module), MemoryLedger()
    with bench.held(card):
        asked = open_token(module, uri, answering(card.pin_text), ledger=ledger)
        assert (await refused(asked)).reason == "token-absent"
    opened = await open_token(module, uri, answering(card.pin_text), ledger=ledger)
    await check_works(opened, card)
    worker = worker_of(opened)
    os.kill(worker, signal.SIGKILL)
    await asyncio.to_thread(wait_gone, worker)
    with bench.held(card):
        assert (await refused(opened.sign(bytes(32)))).reason == "token-absent"
    await check_works(opened, card)
    await opened.close()


_WATCH = """
import asyncio
from dongled.tokens.readers import Readers

async def watch():
    readers = Readers()
    await readers.start()
    for _ in range(5):
        print(*readers.held, sep=",", flush=True)
        before = readers.held
        while readers.held == before:
            await readers.change()

asyncio.run(watch())
"""


def test_who_holds_a_card_is_seen_by_its_reader(card: PivCard) -> None:
    """By a process of its own, as a daemon is."""
    with subprocess.Popen([sys.executable, "-c", _WATCH], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            for _ in range(2):
                assert watching.stdout.readline() == "\n"
                with bench.held(card):
                    assert watching.stdout.readline() == f"{READER} 00 00\n"
            assert watching.stdout.readline() == "\n"
        finally:
            watching.kill()


@pytest.mark.parametrize("status", [_FULL, _READ_ONLY], ids=["full", "read-only"])
@pytest.mark.fault("a full or read-only card")
async def test_a_card_that_takes_nothing_is_left_as_it_was(blank: PivCard, status: int) -> None:
    uri, pin = await uri_of(YKCS11), answering(blank.pin_text)
    officer = answering(piv_management.DEFAULT.hex())

    async def generate() -> x509.Certificate:
        key = await provision.generate(YKCS11, uri, pin, KeyRole.IDENTITY, officer=officer)
        return certify(key.point, usage="digital_signature")

    async def store() -> None:
        await provision.store_certificate(YKCS11, uri, pin, KeyRole.IDENTITY, certificate, officer=officer)

    with blank.inserted.refusing(_GENERATE, status):
        assert (await refused(generate())).reason == "token-fault"
    certificate = await generate()
    with blank.inserted.refusing(_PUT_DATA, status):
        assert (await refused(store())).reason == "token-fault"
    shown = (await provision.show(YKCS11, uri, pin)).keys[KeyRole.IDENTITY]
    assert shown.certificate is None
    await store()
    assert (await provision.show(YKCS11, uri, pin)).keys[KeyRole.IDENTITY].certificate is not None
