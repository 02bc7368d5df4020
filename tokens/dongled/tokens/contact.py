"""A card in a PC/SC reader and nobody else's meanwhile: command APDUs in, answers out (ISO/IEC 7816-4, 5).

The libraries that others use for it need pyscard, which has no wheel. A card that another program uses is
left alone: a SELECT would log that one out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dongled.tokens.readers import LIBRARY

OK = 0x9000
_GET_RESPONSE = bytes.fromhex("00C00000")
_CHAINED, _MOST = 0x10, 250
_MORE = 0x61
_MOST_ANSWER = 8192

# pcsclite.h
_SCOPE_SYSTEM, _EXCLUSIVE, _ANY_PROTOCOL, _RESET_CARD = 2, 1, 3, 1
_MOST_APDU = 264

Transmit = Callable[[bytes], tuple[bytes, int]]
"""A command APDU; returns the answer's data and its status word. Raises OSError."""


class _Request(ctypes.Structure):
    _fields_ = (("protocol", ctypes.c_ulong), ("length", ctypes.c_ulong))


class Contact:
    """One card, held until ``close``. Raises OSError for what the reader or the card does not do."""

    def __init__(self, library: ctypes.CDLL, context: ctypes.c_long, reader: bytes) -> None:
        self._library = library
        self._handle, active = ctypes.c_long(), ctypes.c_ulong()
        _check(
            library.SCardConnect(
                context,
                reader,
                ctypes.c_ulong(_EXCLUSIVE),
                ctypes.c_ulong(_ANY_PROTOCOL),
                ctypes.byref(self._handle),
                ctypes.byref(active),
            )
        )
        self._protocol = _Request(active.value, ctypes.sizeof(_Request))

    def transmit(self, apdu: bytes) -> tuple[bytes, int]:
        answer = ctypes.create_string_buffer(_MOST_APDU)
        size = ctypes.c_ulong(len(answer))
        _check(
            self._library.SCardTransmit(
                self._handle,
                ctypes.byref(self._protocol),
                apdu,
                ctypes.c_ulong(len(apdu)),
                None,
                answer,
                ctypes.byref(size),
            )
        )
        response = answer.raw[: size.value]
        if len(response) < 2:
            raise OSError("the card gave no answer")
        return response[:-2], int.from_bytes(response[-2:], "big")

    def close(self) -> None:
        self._library.SCardDisconnect(self._handle, ctypes.c_ulong(_RESET_CARD))


def exchange(transmit: Transmit, header: bytes, data: bytes = b"") -> tuple[bytes, int]:
    """5.3: a command, given its first four bytes, in parts, and its answer in parts. Raises OSError."""
    while len(data) > _MOST:
        part, data = data[:_MOST], data[_MOST:]
        answer, status = transmit(bytes((header[0] | _CHAINED,)) + header[1:] + _counted(part))
        if status != OK:
            return answer, status
    answer, status = transmit(header + (_counted(data) if data else b"") + b"\0")
    while status >> 8 == _MORE:
        more, status = transmit(_GET_RESPONSE + bytes((status & 0xFF,)))
        answer += more
        if len(answer) > _MOST_ANSWER:
            raise OSError("the card does not stop answering")
    return answer, status


@contextmanager
def readers() -> Iterator[tuple[ctypes.CDLL, ctypes.c_long, list[bytes]]]:
    """The library, a context of it and the readers' names; no reader where there is no pcscd.

    Raises OSError where there is no library.
    """
    library = ctypes.CDLL(LIBRARY)
    context = ctypes.c_long()
    if library.SCardEstablishContext(ctypes.c_ulong(_SCOPE_SYSTEM), None, None, ctypes.byref(context)):
        yield library, context, []
        return
    try:
        yield library, context, _listed(library, context)
    finally:
        library.SCardReleaseContext(context)


def _listed(library: ctypes.CDLL, context: ctypes.c_long) -> list[bytes]:
    names = ctypes.create_string_buffer(16 * 128 + 1)
    size = ctypes.c_ulong(len(names))
    if library.SCardListReaders(context, None, names, ctypes.byref(size)):
        return []
    return [name for name in names.raw[: size.value].split(b"\0") if name]


def _counted(data: bytes) -> bytes:
    return bytes((len(data),)) + data


def _check(code: int) -> None:
    if code:
        raise OSError(f"PC/SC: {code & 0xFFFFFFFF:#x}")
