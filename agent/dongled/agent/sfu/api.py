"""What the daemon asks of an SFU, whichever it is. Nothing that comes from one is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dongled.agent.errors import AgentError


class SfuError(AgentError):
    """The SFU refused, broke the protocol or went away."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A publisher in the room as the SFU tells it: a claim, not a fact.

    ``id`` is the SFU's own name of the feed, ``display`` what its publisher called itself, ``codec`` the
    lower-case video codec, ``encrypted`` whether it was flagged as end-to-end encrypted.
    """

    id: str
    display: str
    codec: str
    encrypted: bool


class RoomListener(Protocol):
    """Told of what happens in the room, on the event loop; must not block."""

    def feed_published(self, feed: Feed) -> None: ...

    def feed_gone(self, feed_id: str) -> None: ...

    def bus_message(self, source: str, message: bytes) -> None:
        """Bytes that ``source`` (the SFU's word for it) broadcast, already put together from chunks."""

    def bus_member_left(self, source: str) -> None: ...

    def bus_refused(self, source: str, reason: str) -> None:
        """A chunk or message was dropped: malformed, too large, too many pending."""

    def connection_lost(self, reason: str) -> None: ...
