"""Events that programs look for, each with a MESSAGE_ID that never changes (docs/operations.md).

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ and systemd.journal-fields(7), MESSAGE_ID.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

# More of somebody's own words than this tells nothing more.
LONGEST = 512


class Event(Enum):
    READY = "b35d76d1af1a46de8d849e603f0b0845"
    STOPPED = "314fb623eb45437ba1eb8638c268516a"
    TOKEN_READY = "295c924714fd4480b5313fa0beb947b1"
    TOKEN_NOT_READY = "5254094feb9d41f5834ad2f04836fa49"
    MEETING_JOINED = "686daada016a4e87a092bac58b561250"
    MEETING_LEFT = "d9a9e1cf60a145dabedef15457c44830"
    MEETING_MUTED = "ad9a6934795a497dbc0d32a30c8374f0"
    PEER_JOINED = "35de72a83c3c42d0b205ff109ae4ccd1"
    PEER_LEFT = "60aaff803e3d4843872daaa3e68ddbdf"
    PEER_EXPELLED = "93b261a95bf141638ad96c1c9bdb804b"
    REFUSED = "0f4a03851a494d0080af68372a5fbfd0"
    JUDGED = "210b8746e9ff4b9fb6203e696cf3fca0"
    PRIVATE = "c44a5c8ecb604b399a865833fa40a4d8"
    ALARM = "6b0489ca33e24399a37cf37802d8413b"
    CERTIFICATE_RENEWED = "2b17cf29baf84bda8ee5107e2d364d93"
    RENEWAL_FAILED = "d823dbdf7dad4caf9bf054101cca19ac"
    RELOADED = "2a41d96fa49c40af8bc81e1a3638a87b"
    RELOAD_REFUSED = "db9163c8f71c4bdd9a3315e31c5203f0"
    CONTROL_CALLED = "c8d0aa4722d142e59f62b81d79cbe65f"
    WARNING_BEGAN = "3a0bf2145b9442ae8fabeef6e9713c51"
    WARNING_ENDED = "fd5f1781427d41cab6bcaf7dc2c2b265"


def about(event: Event, **fields: str) -> dict[str, Any]:
    """For ``extra=`` of a log call: the event, and each field as DONGLED_NAME; empty ones are left out."""
    named = {f"DONGLED_{name.upper()}": printable(text[:LONGEST]) for name, text in fields.items() if text}
    return {"journal": {"MESSAGE_ID": event.value, "DONGLED_EVENT": event.name.lower(), **named}}


def printable(text: str) -> str:
    """``text`` without what ends a line, moves a cursor, or hides or turns round what stands beside it."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
