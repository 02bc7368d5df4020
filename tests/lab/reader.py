"""The contact between a card and QEMU's CCID reader: insert it, pull it.

The protocol of libcacard's vscard: a header of type, reader and length (4 bytes each, big-endian)
and a payload.
https://gitlab.freedesktop.org/spice/libcacard/-/blob/master/src/vscard_common.h
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from support.card.apdu import Card

_INIT, _ERROR, _READER_ADD, _ATR, _REMOVED, _APDU = 1, 2, 3, 5, 6, 7
_HEADER = struct.Struct(">III")
# Magic, version and one word of capabilities.
_INTRODUCTION = b"VSCD"[::-1] + struct.pack(">II", 2, 0)


class CcidReader:
    """A USB reader of a virtual machine, to which a card is given. Plugged in while this lives."""

    def __init__(self, path: Path) -> None:
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link.connect(str(path))
        self._lock = threading.Lock()
        self._card: Card | None = None
        self.commands = 0
        self._send(_INIT, _INTRODUCTION)
        self._send(_READER_ADD)
        self._thread = threading.Thread(target=self._serve, name="reader", daemon=True)
        self._thread.start()

    def insert(self, card: Card) -> None:
        card.reset()
        self._card = card
        self._send(_ATR, card.atr)

    def pull(self) -> None:
        card, self._card = self._card, None
        self._send(_REMOVED)
        if card is not None:
            card.reset()

    def close(self) -> None:
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()

    def _send(self, kind: int, payload: bytes = b"") -> None:
        with self._lock:
            self._link.sendall(_HEADER.pack(kind, 0, len(payload)) + payload)

    def _serve(self) -> None:
        with suppress(OSError):
            while (header := self._exactly(_HEADER.size)) is not None:
                kind, _, length = _HEADER.unpack(header)
                payload = self._exactly(length)
                if payload is None:
                    return
                if kind == _APDU and (card := self._card) is not None:
                    self.commands += 1
                    self._send(_APDU, card.transmit(payload))

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            part = self._link.recv(count - len(data))
            if not part:
                return None
            data += part
        return data
