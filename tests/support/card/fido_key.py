"""A virtual FIDO2 key in a reader, and somebody who touches it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.card.apdu import Card
from support.card.bench import wait_until
from support.card.fido import FidoApplet
from support.card.fido_authenticator import Authenticator
from support.card.pcscd import Pcscd
from support.card.piv import ATR
from support.card.vpcd import InsertedCard


@contextmanager
def inserted(daemon: Pcscd, authenticator: Authenticator, slot: int = 0) -> Iterator[InsertedCard]:
    card = InsertedCard(Card(ATR, FidoApplet(authenticator)), daemon.port + slot)
    card.insert()
    wait_until("present", daemon, slot)
    yield card
    card.pull()


@contextmanager
def touching(authenticator: Authenticator) -> Iterator[None]:
    """Somebody who touches the key whenever it asks."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            if authenticator.touch.asked.wait(0.1):
                authenticator.touch.asked.clear()
                authenticator.touch.touch()

    thread = threading.Thread(target=run, name="finger")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
