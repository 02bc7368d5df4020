"""FIDO2 keys behind PC/SC readers, as python-fido2 takes devices. Its own need pyscard, which has no wheel.

CTAP 2.1, 11.3 (NFC). A card that another program uses is left alone: a SELECT would log that one out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from threading import Event

from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.hid import CAPABILITY, CTAPHID

from dongled.tokens.readers import LIBRARY

_AID = bytes.fromhex("A0000006472F0001")
_SELECT, _GET_RESPONSE = bytes.fromhex("00A40400"), bytes.fromhex("00C00000")
# 11.3.5: the host understands that a command takes longer.
_MESSAGE, _POLL, _CANCEL = bytes.fromhex("80108000"), bytes.fromhex("80110000"), bytes.fromhex("80111100")
_CHAINED, _MOST = 0x10, 250
_OK, _BUSY, _MORE = 0x9000, 0x9100, 0x61
_MOST_ANSWER = 8192
# 11.3.7.1 leaves it to the host how often it asks; seconds.
_ASK_EVERY = 0.1

# pcsclite.h
_SCOPE_SYSTEM, _EXCLUSIVE, _ANY_PROTOCOL, _RESET_CARD = 2, 1, 3, 1
_MOST_APDU = 264


class _Request(ctypes.Structure):
    _fields_ = (("protocol", ctypes.c_ulong), ("length", ctypes.c_ulong))


class PcscDevice(CtapDevice):
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
        try:
            self._select()
        except BaseException:
            self.close()
            raise

    def _select(self) -> None:
        _, status = self._exchange(_SELECT, _AID)
        if status != _OK:
            raise OSError("no FIDO2 key")

    @property
    def capabilities(self) -> int:
        return CAPABILITY.CBOR

    def call(
        self,
        cmd: int,
        data: bytes = b"",
        event: Event | None = None,
        on_keepalive: Callable[[STATUS], None] | None = None,
    ) -> bytes:
        if cmd != CTAPHID.CBOR:
            raise CtapError(CtapError.ERR.INVALID_COMMAND)
        answer, status = self._exchange(_MESSAGE, data)
        told = None
        while status == _BUSY:
            if on_keepalive is not None and answer and answer != told:
                told = answer
                on_keepalive(STATUS(answer[0]))
            cancelled = (event or Event()).wait(_ASK_EVERY)
            answer, status = self._exchange(_CANCEL if cancelled else _POLL)
        if status != _OK:
            raise OSError(f"the key answered {status:04X}")
        return answer

    def close(self) -> None:
        self._library.SCardDisconnect(self._handle, ctypes.c_ulong(_RESET_CARD))

    @classmethod
    def list_devices(cls) -> Iterator[PcscDevice]:
        """Each has to be closed."""
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError:
            return
        context = ctypes.c_long()
        scope = ctypes.c_ulong(_SCOPE_SYSTEM)
        if library.SCardEstablishContext(scope, None, None, ctypes.byref(context)):
            return
        try:
            for reader in _readers(library, context):
                try:
                    device = cls(library, context, reader)
                except OSError:
                    continue
                yield device
        finally:
            library.SCardReleaseContext(context)

    def _exchange(self, header: bytes, data: bytes = b"") -> tuple[bytes, int]:
        """ISO/IEC 7816-4, 5.3: a command in parts, and its answer in parts."""
        while len(data) > _MOST:
            part, data = data[:_MOST], data[_MOST:]
            answer, status = self._transmit(bytes((header[0] | _CHAINED,)) + header[1:] + _counted(part))
            if status != _OK:
                return answer, status
        answer, status = self._transmit(header + (_counted(data) if data else b"") + b"\0")
        while status >> 8 == _MORE:
            more, status = self._transmit(_GET_RESPONSE + bytes((status & 0xFF,)))
            answer += more
            if len(answer) > _MOST_ANSWER:
                raise OSError("the key does not stop answering")
        return answer, status

    def _transmit(self, apdu: bytes) -> tuple[bytes, int]:
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
            raise OSError("the key gave no answer")
        return response[:-2], int.from_bytes(response[-2:], "big")


def _readers(library: ctypes.CDLL, context: ctypes.c_long) -> list[bytes]:
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
