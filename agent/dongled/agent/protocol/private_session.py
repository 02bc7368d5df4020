"""What is known of one private session (docs/protocol.md, Private sessions)."""

from __future__ import annotations

from dataclasses import dataclass, field

from dongled.agent.protocol.api import Peer, PrivateFeed, Stream
from dongled.agent.protocol.letters import Posted
from dongled.agent.protocol.messages import Position
from dongled.agent.protocol.private_messages import PrivateKey

INVITING, INVITED, ACTIVE = "inviting", "invited", "active"


@dataclass(slots=True)
class Shown:
    """A stream of mine. ``key`` is its newest generation, ``at`` where the one in use is, ``signing`` raw."""

    key: PrivateKey
    signing: bytes = field(repr=False)
    at: Position | None = None


@dataclass(slots=True)
class Watched:
    """A stream of the peer's; ``verify_key`` is the S that signs this generation's frames."""

    key: PrivateKey
    verify_key: bytes
    retire_at: float = float("inf")


@dataclass(slots=True)
class Session:
    """One private session, from the invitation on. ``until``: when it lapses, unless it is accepted.

    ``invites`` are the hashes of the invites' contents: those sent, or the one last taken.
    """

    id: bytes
    peer: Peer
    state: str
    until: float
    shows: dict[str, Shown] = field(default_factory=dict)
    watches: dict[str, Watched] = field(default_factory=dict)
    invites: list[bytes] = field(default_factory=list)
    inviter: bool = False
    posted: Posted | None = None
    switch_at: float | None = None

    @property
    def mine(self) -> tuple[PrivateFeed, ...]:
        return tuple(_feed(shown.key) for shown in self.shows.values())

    @property
    def theirs(self) -> tuple[PrivateFeed, ...]:
        return tuple(_feed(watched.key) for watched in self.watches.values())


def _feed(key: PrivateKey) -> PrivateFeed:
    return PrivateFeed(Stream(key.stream, key.codec), key.name)
