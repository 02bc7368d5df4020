"""How to reach a room on a Janus, and with which secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dongled.agent.sfu.api import SfuError

# Janus 1.1.2's TextRoom writes the room's name, unescaped, into a 100-byte buffer when a member's
# connection goes away; a longer or stranger name would leave that member in the room for ever.
MAX_ROOM = 44


@dataclass(frozen=True, slots=True)
class JanusSettings:
    """``url`` is ws:// or wss://; ``ca_file`` (PEM) replaces the system's roots for wss.

    ``room`` has at most 44 bytes of ASCII letters, digits and ``-_.``. ``create``: make the room when it
    is missing. ``encrypted``: ask for a room of end-to-end encrypted feeds, and join its bus.
    The secrets are never shown. Raises SfuError ``room-name`` or ``sfu-url``.
    """

    url: str
    room: str
    ca_file: Path | None = None
    room_pin: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    api_secret: str | None = field(default=None, repr=False)
    create: bool = True
    encrypted: bool = True

    def __post_init__(self) -> None:
        if not self.url.startswith(("ws://", "wss://")):
            raise SfuError(
                "sfu-url", f"{self.url!r} is no WebSocket address", "begin it with wss:// or ws://"
            )
        plain = self.room.replace("-", "").replace("_", "").replace(".", "")
        if not (plain.isascii() and plain.isalnum()) or len(self.room) > MAX_ROOM:
            raise SfuError(
                "room-name",
                f"{self.room!r} cannot name a room",
                f"use up to {MAX_ROOM} letters, digits and -_. without accents",
            )

    def scrub(self, text: str) -> str:
        """``text`` from the SFU without our secrets, should it have put them there."""
        for secret in (self.room_pin, self.token, self.api_secret):
            if secret:
                text = text.replace(secret, "***")
        return text
