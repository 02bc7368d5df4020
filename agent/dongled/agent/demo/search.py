"""Looks for pieces of a plaintext in what the SFU forwarded."""

from __future__ import annotations

from collections.abc import Iterable

WINDOW = 16


def windows_found(plaintexts: Iterable[bytes], forwarded: Iterable[bytes]) -> int:
    """How many 16-byte windows of the plaintexts occur anywhere in what was forwarded.

    Windows that say nothing (fewer than eight different bytes, as in padding) are left out.
    """
    wanted = set()
    for plaintext in plaintexts:
        for at in range(0, len(plaintext) - WINDOW + 1, WINDOW):
            window = plaintext[at : at + WINDOW]
            if len(set(window)) >= WINDOW // 2:
                wanted.add(window)
    found = set()
    for payload in forwarded:
        for at in range(len(payload) - WINDOW + 1):
            if (window := payload[at : at + WINDOW]) in wanted:
                found.add(window)
    return len(found)
