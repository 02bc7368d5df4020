"""The contact between a card and pcscd: insert it, pull it, slow it down, spoil what it says.

The protocol of vsmartcard's vpcd: a card is a TCP client; frames are a length (2 bytes, big-endian) and a
payload. A payload of one byte is control, anything else a command APDU that wants an answer.
https://frankmorgner.github.io/vsmartcard/virtualsmartcard/api.html
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from support.card.apdu import Card
from support.hold import Hold

_OFF, _ON, _RESET, _ATR = 0, 1, 2, 4

Spoil = Callable[[bytes], bytes]


class InsertedCard:
    """A card in a slot of a virtual reader, or out of it. Served by a thread while it is in.

    ``exchanged`` has each command's instruction byte and all its bytes, in order.
    """

    def __init__(self, card: Card, port: int) -> None:
        self.card = card
        self.exchanged: list[tuple[int, bytes]] = []
        self._port = port
        self._link: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._holds: dict[int, Hold] = {}
        self._spoils: dict[int, Spoil] = {}
        self._refusals: dict[int, int] = {}

    def insert(self) -> None:
        assert self._link is None, "the card is in already"
        self._link = socket.create_connection(("127.0.0.1", self._port))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._serve, args=(self._link,), name="card", daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Out of the reader at once, whatever the card is doing."""
        link, self._link = self._link, None
        if link is None or self._thread is None:
            return
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
        for hold in self._holds.values():
            hold.release()
        self._thread.join()
        link.close()

    @contextmanager
    def holding(self, instruction: int) -> Iterator[Hold]:
        """Leave commands with this instruction byte unanswered until released."""
        hold = self._holds[instruction] = Hold()
        try:
            yield hold
        finally:
            del self._holds[instruction]
            hold.release()

    @contextmanager
    def spoiling(self, instruction: int, spoil: Spoil) -> Iterator[None]:
        """Pass the responses (with their status words) to these commands through ``spoil``."""
        self._spoils[instruction] = spoil
        try:
            yield
        finally:
            del self._spoils[instruction]

    @contextmanager
    def refusing(self, instruction: int, status: int) -> Iterator[None]:
        """Have the card do nothing on these commands but answer with that status word."""
        self._refusals[instruction] = status
        try:
            yield
        finally:
            del self._refusals[instruction]

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError):
            while (payload := _receive(link)) is not None:
                if len(payload) != 1:
                    _send(link, self._respond(payload))
                elif payload[0] == _ATR:
                    _send(link, self.card.atr)
                elif payload[0] in (_OFF, _ON, _RESET):
                    self.card.reset()
        # Without power a card forgets who was authenticated.
        self.card.reset()

    def _respond(self, payload: bytes) -> bytes:
        instruction = payload[1] if len(payload) > 1 else -1
        self.exchanged.append((instruction, payload))
        if (hold := self._holds.get(instruction)) is not None:
            hold.wait()
        if (status := self._refusals.get(instruction)) is not None:
            return status.to_bytes(2, "big")
        response = self.card.transmit(payload)
        spoil = self._spoils.get(instruction)
        return spoil(response) if spoil is not None else response


def _receive(link: socket.socket) -> bytes | None:
    header = _exactly(link, 2)
    return None if header is None else _exactly(link, struct.unpack(">H", header)[0])


def _exactly(link: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        # vpcd writes length and payload apart: its kernel holds the second until the first is acknowledged.
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = link.recv(count - len(data))
        if not part:
            return None
        data += part
    return data


def _send(link: socket.socket, payload: bytes) -> None:
    link.sendall(struct.pack(">H", len(payload)) + payload)
