"""FIDO2 keys on USB: those that answer. Whatever else is plugged in neither hides them nor is waited for.

https://fidoalliance.org/specs/fido-v2.1-ps-20210615/fido-client-to-authenticator-protocol-v2.1-ps-20210615.html#usb
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator

from fido2.ctap import CtapError
from fido2.hid import ConnectionFailure, CtapHidDevice, list_descriptors
from fido2.hid.base import CtapHidConnection, HidDescriptor

# What python-fido2 raises where a device does not keep to CTAP.
NONSENSE = (ConnectionFailure, struct.error, ValueError, TypeError, LookupError, AttributeError)
# 11.2.9.2: while it works, or waits for a touch, it says so every 0.1 s.
SILENT_FOR = 5.0


class _Connection(CtapHidConnection):
    """Raises OSError."""

    def __init__(self, descriptor: HidDescriptor) -> None:
        self._handle = os.open(descriptor.path, os.O_RDWR)
        self._size = descriptor.report_size_in

    def read_packet(self) -> bytes:
        # Nothing else would end a thread that waits for a device. Not select(2): its descriptors end at 1023.
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        if not waiting.poll(SILENT_FOR * 1000):
            raise TimeoutError(f"it has said nothing for {SILENT_FOR:g} s")
        return os.read(self._handle, self._size)

    def write_packet(self, data: bytes) -> None:
        # https://docs.kernel.org/hid/hidraw.html: the report's number comes first.
        if os.write(self._handle, b"\0" + data) != 1 + len(data):
            raise OSError("it took half a packet")

    def close(self) -> None:
        os.close(self._handle)


def list_devices() -> Iterator[CtapHidDevice]:
    """Each has to be closed."""
    for descriptor in list_descriptors():  # type: ignore[no-untyped-call]  # it is not typed
        try:
            connection = _Connection(descriptor)
        except OSError:
            continue
        try:
            device = CtapHidDevice(descriptor, connection)
        except (OSError, CtapError, *NONSENSE):
            connection.close()
            continue
        yield device
