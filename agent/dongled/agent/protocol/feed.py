"""What is wanted of one publisher, what was asked of it, and what is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Stream
from dongled.agent.protocol.links import Link
from dongled.agent.protocol.remote import Remote, RemoteEpoch


@dataclass(slots=True)
class Asked:
    """The outstanding request to one publisher.

    ``own`` is the hash of my announcement that it was made under; ``pending``: the publisher has it, and
    cannot tell yet.
    """

    message: bytes
    digest: bytes
    nonce: bytes
    sent_at: float
    again_at: float
    own: bytes
    pending: bool = False
    tries: int = 1
    operation: int | None = None


@dataclass(frozen=True, slots=True)
class Gathering:
    """A request that is due, and waits for what there is to show with it.

    ``own`` (my announcement's hash) and ``epoch`` say whose keys it is signed and sealed with, ``echo`` is
    the publisher's nonce.
    """

    operation: int
    own: bytes
    epoch: RemoteEpoch
    echo: bytes
    until: float


@dataclass(frozen=True, slots=True)
class Held:
    """The newest generation that I hold of a stream; ``signing`` verifies its frames."""

    kid: int
    commit: bytes
    signing: bytes


@dataclass(slots=True)
class Feed:
    """What I want of one publisher, and what I hold of it, by stream.

    ``granted`` is the hash of the publisher's announcement under which it granted the link.
    """

    remote: Remote
    streams: dict[str, Stream]
    held: dict[str, Held] = field(default_factory=dict)
    link: Link | None = None
    granted: bytes = b""
    renew_at: float = float("inf")
    key_seq: int = 0
    missing: bool = True
    gathering: Gathering | None = None
    asked: Asked | None = None
    ask_at: float = 0.0
    refused: str | None = None
    waiting: Callable[[float], None] | None = None
    waiting_seq: int = 0
    retiring: list[tuple[float, str, int]] = field(default_factory=list)

    @property
    def renewed(self) -> bool:
        """Was the link granted in the publisher's present round?"""
        return self.granted == self.remote.epoch.party.announcement

    @property
    def expires_at(self) -> float:
        """When what I hold from the publisher's earlier rounds is to go."""
        signing = self.remote.epoch.announce.signing
        past = self.link is not None and not self.renewed
        if past or any(held.signing != signing for held in self.held.values()):
            return self.remote.epoch_at + limits.EXPIRE
        return float("inf")
