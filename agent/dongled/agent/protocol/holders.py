"""What a publisher remembers of those who hold its keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from dongled.agent.policy.api import PolicyRefused, Presented
from dongled.agent.protocol.again import Again
from dongled.agent.protocol.links import Link
from dongled.agent.protocol.remote import RemoteEpoch


@dataclass(slots=True)
class Holder:
    """A receiver that holds keys, and the link over which it gets the next ones."""

    link: Link
    streams: frozenset[str]
    epoch: RemoteEpoch
    presented: Presented
    request: bytes
    grant: bytes = field(repr=False)
    key_seq: int
    why: str
    answered: Again
    announcement: bytes
    """Hash of the announcement of mine under which the link was granted."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the policy lets somebody have, and on what grounds."""

    streams: frozenset[str]
    why: str
    refused: tuple[PolicyRefused, ...] = ()
    """Why it may not have the others."""


@dataclass(slots=True)
class CachedRekey:
    key_seq: int
    message: bytes
    sent_at: float
