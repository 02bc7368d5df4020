"""What the grant protocol asks of the policy. It answers from its own clock, roots and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent.errors import AgentError
from dongled.agent.protocol.api import Evidence


class PolicyRefused(AgentError):
    """A certificate or a request was refused; ``reason`` is distinct for each check."""


class PolicyUndecided(PolicyRefused):
    """Refused because something is not known, and may be in a moment: the question is worth repeating."""


@dataclass(frozen=True, slots=True)
class CheckedCertificate:
    """A certificate that passed every check at the time of asking.

    ``terminal`` is its SAN URI (``urn:uuid:...``), ``leaf`` the SHA-256 of its DER, ``assurance``
    ``"software"`` or ``"hardware"``, ``valid_until`` the earliest end in its path (aware; where it is None
    the policy grants nothing), ``path`` what was verified, leaf first, root last (where it is empty and
    revocation is looked at, the policy grants nothing).
    """

    terminal: str
    subject: str
    leaf: bytes
    public_key: ec.EllipticCurvePublicKey
    roles: frozenset[str]
    assurance: str
    valid_until: datetime | None = None
    path: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Presented:
    """What came with a request: meeting, session (16 bytes), streams of mine, and the evidence, unverified.

    ``data_key`` is the one that its announcement names, and that opens its grants.

    ``challenge`` (32 bytes) is fresh, of this request alone: what a FIDO2 assertion must answer. The same is
    shown again as long as the request's grant is judged again.
    """

    meeting: str
    session: bytes
    data_key: ec.EllipticCurvePublicKey
    streams: tuple[str, ...]
    evidence: Evidence
    challenge: bytes


class EvidenceCheck(Protocol):
    """Requires some kind of evidence, or makes sure that what is shown holds. One kind, one file."""

    def check(self, identity: CheckedCertificate, presented: Presented, stream: str) -> Sequence[str]:
        """Words for what was verified, none where nothing was shown nor required for this stream of mine.

        Asked about each request, and again whenever its keys are renewed. Raises PolicyRefused.
        """


class Policy(Protocol):
    """Fail closed: whatever is not clearly allowed raises PolicyRefused."""

    def check_identity(self, chain: Sequence[bytes]) -> CheckedCertificate:
        """Check an identity certificate and its chain (DER, leaf first)."""

    def check_data_key(self, identity: CheckedCertificate, chain: Sequence[bytes], point: bytes) -> str:
        """Check the data key's certificate chain (empty: none was announced); returns its assurance.

        ``point`` is the announced data key, 65 bytes of uncompressed SEC1.
        """

    def may_publish(self, identity: CheckedCertificate) -> None:
        """May streams of this terminal be asked for and watched here?"""

    def staple(self, chains: Sequence[Sequence[bytes]], answers: Sequence[bytes]) -> None:
        """Learn what a terminal brought of OCSP answers (DER) about the certificates of its chains.

        What does not hold is refused, and what holds is learned nevertheless.
        """

    def may_view(self, identity: CheckedCertificate, stream: str, presented: Presented) -> str:
        """May this terminal have the key of my stream, now? Returns on what grounds, for the operator."""
