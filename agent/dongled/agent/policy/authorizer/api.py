"""The question that an authorizer is asked, and what one is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from dongled.agent.policy.api import CheckedCertificate, Presented


@dataclass(frozen=True)
class Question:
    """May this terminal, as its certificate was verified, watch these streams of mine?

    ``certificate`` is DER, ``leaf`` the hex of its SHA-256; ``evidence``: words for what was shown and held.
    """

    meeting: str
    terminal: str
    subject: str
    certificate: bytes
    leaf: str
    roles: tuple[str, ...]
    assurance: str
    streams: tuple[str, ...]
    evidence: tuple[str, ...]

    @cached_property
    def id(self) -> str:
        """The same as long as the question is: hex, 16 characters."""
        parts = [self.meeting, self.terminal, self.subject, self.leaf, self.assurance]
        told = json.dumps([*parts, self.roles, self.streams, self.evidence])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def question_about(identity: CheckedCertificate, presented: Presented, evidence: Sequence[str]) -> Question:
    certificate = identity.path[0].public_bytes(Encoding.DER) if identity.path else b""
    return Question(
        presented.meeting,
        identity.terminal,
        identity.subject,
        certificate,
        identity.leaf.hex(),
        tuple(sorted(identity.roles)),
        identity.assurance,
        presented.streams,
        tuple(sorted(evidence)),
    )


class Authorizer(Protocol):
    """Answers at once from what it knows, and finds out the rest in the background."""

    def decide(self, question: Question, stream: str) -> str:
        """The grounds to let it have this stream. Raises PolicyRefused, and PolicyUndecided meanwhile."""

    def on_learned(self, learned: Callable[[], None]) -> None:
        """Call ``learned`` whenever something may be decided otherwise than before."""

    async def run(self) -> None:
        """Until cancelled."""
