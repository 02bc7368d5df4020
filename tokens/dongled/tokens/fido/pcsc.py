"""FIDO2 keys behind PC/SC readers, as python-fido2 takes devices; CTAP 2.1, 11.3 (NFC)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from threading import Event

from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.hid import CAPABILITY, CTAPHID

from dongled.tokens.contact import OK, Contact, exchange, readers

_AID = bytes.fromhex("A0000006472F0001")
_SELECT = bytes.fromhex("00A40400")
# 11.3.5: the host understands that a command takes longer.
_MESSAGE, _POLL, _CANCEL = bytes.fromhex("80108000"), bytes.fromhex("80110000"), bytes.fromhex("80111100")
_BUSY = 0x9100
# 11.3.7.1 leaves it to the host how often it asks; seconds.
_ASK_EVERY = 0.1


class PcscDevice(CtapDevice):
    """One card, held until ``close``. Raises OSError for what the reader or the card does not do."""

    def __init__(self, library: ctypes.CDLL, context: ctypes.c_long, reader: bytes) -> None:
        self._contact = Contact(library, context, reader)
        try:
            self._select()
        except BaseException:
            self.close()
            raise

    def _select(self) -> None:
        _, status = exchange(self._transmit, _SELECT, _AID)
        if status != OK:
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
        answer, status = exchange(self._transmit, _MESSAGE, data)
        told = None
        while status == _BUSY:
            if on_keepalive is not None and answer and answer != told:
                told = answer
                on_keepalive(STATUS(answer[0]))
            cancelled = (event or Event()).wait(_ASK_EVERY)
            answer, status = exchange(self._transmit, _CANCEL if cancelled else _POLL)
        if status != OK:
            raise OSError(f"the key answered {status:04X}")
        return answer

    def close(self) -> None:
        self._contact.close()

    @classmethod
    def list_devices(cls) -> Iterator[PcscDevice]:
        """Each has to be closed."""
        try:
            with readers() as (library, context, names):
                for name in names:
                    try:
                        device = cls(library, context, name)
                    except OSError:
                        continue
                    yield device
        except OSError:
            return

    def _transmit(self, apdu: bytes) -> tuple[bytes, int]:
        return self._contact.transmit(apdu)
