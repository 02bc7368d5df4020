"""Wait until a reader has a card, or has none: ``python presence.py READER present|absent``.

A process of its own, since libpcsclite remembers the first pcscd that it met, and cannot ask several.
OpenSC's own ``opensc-tool --wait`` misses cards that are in already.
"""

from __future__ import annotations

import ctypes
import sys

# pcsclite.h
_SCOPE_SYSTEM = 2
_STATE_EMPTY = 0x10
_STATE_PRESENT = 0x20
_STATE_MUTE = 0x200
_INFINITE = 0xFFFFFFFF


class _ReaderState(ctypes.Structure):
    _fields_ = (
        ("reader", ctypes.c_char_p),
        ("user_data", ctypes.c_void_p),
        ("current", ctypes.c_ulong),
        ("event", ctypes.c_ulong),
        ("atr_length", ctypes.c_ulong),
        ("atr", ctypes.c_ubyte * 33),
    )


def main(reader: str, wanted: str) -> None:
    library = ctypes.CDLL("libpcsclite.so.1")
    context = ctypes.c_long()
    code = library.SCardEstablishContext(ctypes.c_ulong(_SCOPE_SYSTEM), None, None, ctypes.byref(context))
    state = _ReaderState(reader=reader.encode())
    while code == 0:
        code = library.SCardGetStatusChange(context, ctypes.c_ulong(_INFINITE), ctypes.byref(state), 1)
        answers = state.event & _STATE_PRESENT and not state.event & _STATE_MUTE and state.atr_length
        if code == 0 and {"present": answers, "absent": state.event & _STATE_EMPTY}[wanted]:
            return
        state.current = state.event
    sys.exit(f"PC/SC error {code & 0xFFFFFFFF:#x}")


if __name__ == "__main__":
    main(*sys.argv[1:])
