"""How a feed in the SFU's room says which terminal's stream it carries.

The display name is only a claim: the frames authenticate session and stream, so a feed that lies opens
nothing (docs/protocol.md, Frames).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ENCRYPTED = re.compile(r"dongled/1 ([0-9a-f]{32}) ([a-z0-9-]{1,32})")
PLAIN = re.compile(r"dongled/1 plain ([^\x00-\x1f]{1,64}) ([a-z0-9-]{1,32})")


@dataclass(frozen=True, slots=True)
class EncryptedFeed:
    """``session`` is the 16-byte session id that the feed claims."""

    session: bytes
    stream: str


@dataclass(frozen=True, slots=True)
class PlainFeed:
    """``name`` is whatever the publisher calls itself: nothing vouches for it."""

    name: str
    stream: str


def encrypted_display(session: bytes, stream: str) -> str:
    return f"dongled/1 {session.hex()} {stream}"


def plain_display(name: str, stream: str) -> str:
    return f"dongled/1 plain {name} {stream}"


def parse_encrypted(display: str) -> EncryptedFeed | None:
    match = ENCRYPTED.fullmatch(display)
    return EncryptedFeed(bytes.fromhex(match[1]), match[2]) if match else None


def parse_plain(display: str) -> PlainFeed | None:
    match = PLAIN.fullmatch(display)
    return PlainFeed(match[1], match[2]) if match else None
