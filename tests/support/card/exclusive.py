"""Hold a card as another program would: ``python exclusive.py READER``, until its standard input ends.

It says ``held`` once nobody else gets at the card (SCardConnect with SCARD_SHARE_EXCLUSIVE). A process of its
own, as ``presence`` is.
"""

from __future__ import annotations

import ctypes
import sys

# pcsclite.h
_SCOPE_SYSTEM = 2
_SHARE_EXCLUSIVE = 1
_PROTOCOL_ANY = 3
_LEAVE_CARD = 0


def main(reader: str) -> None:
    library = ctypes.CDLL("libpcsclite.so.1")
    context, card, protocol = ctypes.c_long(), ctypes.c_long(), ctypes.c_ulong()
    code = library.SCardEstablishContext(ctypes.c_ulong(_SCOPE_SYSTEM), None, None, ctypes.byref(context))
    if code == 0:
        code = library.SCardConnect(
            context, reader.encode(), ctypes.c_ulong(_SHARE_EXCLUSIVE), ctypes.c_ulong(_PROTOCOL_ANY),
            ctypes.byref(card), ctypes.byref(protocol),
        )  # fmt: skip
    if code != 0:
        sys.exit(f"{code & 0xFFFFFFFF:#x}")
    print("held", flush=True)  # noqa: T201 - what whoever started it waits for
    sys.stdin.read()
    library.SCardDisconnect(card, ctypes.c_ulong(_LEAVE_CARD))


if __name__ == "__main__":
    main(sys.argv[1])
