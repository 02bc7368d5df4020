from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest

from dongled.tokens.fido import keys
from dongled.tokens.fido.keys import Person
from dongled.tokens.fido.pcsc import PcscDevice
from dongled.tokens.pin import Pin
from support.card.apdu import Card
from support.card.fido import FidoApplet
from support.card.fido_authenticator import Authenticator
from support.card.piv import ATR


class InHand(PcscDevice):
    """A virtual FIDO key without a reader in between: the same APDUs."""

    def __init__(self, card: Card, there: Callable[[], bool]) -> None:
        self.card, self.there = card, there
        self._select()

    def _transmit(self, apdu: bytes) -> tuple[bytes, int]:
        if not self.there():
            raise OSError("PC/SC: 0x80100069")
        response = self.card.transmit(apdu)
        return response[:-2], int.from_bytes(response[-2:], "big")

    def close(self) -> None:
        self.card.reset()


@dataclass
class Desk:
    """The FIDO keys that are plugged in, by name; ``pulled`` names one that goes while it waits."""

    keys: dict[str, Authenticator] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)

    def devices(self) -> Generator[InHand, None, None]:
        for name, authenticator in self.keys.items():
            if name not in self.away:
                card = Card(ATR, FidoApplet(authenticator))
                device = InHand(card, lambda name=name: name not in self.away)  # type: ignore[misc]  # its own name
                try:
                    yield device
                finally:
                    device.close()

    def person(self, pin: str | None = None, *, seconds: float = 30.0, touching: bool = True) -> Person:
        """Somebody who touches whatever blinks, and knows a key's PIN."""

        def told() -> None:
            if touching:
                for authenticator in self.keys.values():
                    if authenticator.touch.asked.is_set():
                        authenticator.touch.touch()

        return Person(told, None if pin is None else lambda: Pin(pin), threading.Event(), seconds)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk({"one": Authenticator("2468")})
    monkeypatch.setattr(keys, "devices", desk.devices)
    return desk
