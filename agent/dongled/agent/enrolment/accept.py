"""Is what the platform sent the certificate that was asked for? Until it is, the old one is kept.

Each step prevents something:

 1. the key        a certificate for somebody else's key, or for our other one
 2. the terminal   our key under another terminal's name
 3. the path       what no configured root stands for, is not valid now, or is not of our profile
 4. the subject    two certificates of one terminal that others take for two terminals'
 5. the time       a renewal that renews nothing, or would not count: of two the one that begins later does
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dongled.agent.enrolment.est import EnrolmentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.certificates import CertificateVerifier, VerifiedCertificate
from dongled.agent.policy.profile import MALFORMED, MAX_PATH, Kind, terminal_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """``point`` is the key as 65 bytes of SEC1. ``subject`` None: the platform may choose one.

    ``begun`` and ``after`` are the begin and the end of the certificate that is to be renewed.
    """

    kind: Kind
    point: bytes
    terminal: str
    subject: str | None = None
    begun: datetime | None = None
    after: datetime | None = None


def accept(
    issued: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    wanted: Wanted,
    verifier: CertificateVerifier,
) -> list[bytes]:
    """The chain to present, DER, leaf first. Raises EnrolmentError, its reason the step's or the policy's.

    ``authorities`` may fill in intermediates; the roots are the verifier's.
    """
    # 1.
    if _point(issued) != wanted.point:
        raise EnrolmentError(
            "est-other-key",
            f"the platform issued a certificate for another key than the {wanted.kind} key",
            "does it mix up requests, or make keys of its own?",
        )

    # 2.
    if _terminal(issued) != wanted.terminal:
        raise EnrolmentError(
            "est-other-terminal",
            f"the platform issued a certificate that does not name {wanted.terminal} alone",
            "it has to take the alternative name from the request; see docs/certificates.md",
        )

    # 3.
    try:
        chain, found = _path(issued, authorities, wanted.kind, verifier)
    except PolicyRefused as error:
        raise EnrolmentError(error.reason, f"the issued certificate: {error}", error.hint) from error
    if wanted.kind is Kind.IDENTITY and not found.roles:
        raise EnrolmentError(
            "no-role", "the issued certificate has no role", "see docs/certificates.md for the policies"
        )

    # 4.
    if wanted.subject is not None and found.subject != wanted.subject:
        raise EnrolmentError(
            "est-other-subject",
            f"the issued certificate is {found.subject}'s, not {wanted.subject}'s",
            "both certificates of a terminal have the same subject, and keep it",
        )

    # 5.
    if wanted.after is not None and issued.not_valid_after_utc <= wanted.after:
        raise EnrolmentError(
            "est-not-newer",
            f"the issued certificate ends {issued.not_valid_after_utc:%Y-%m-%d %H:%M}, no later than the old",
            "does the platform answer with what it issued before?",
        )
    if wanted.begun is not None and issued.not_valid_before_utc < wanted.begun:
        raise EnrolmentError(
            "est-not-newer",
            f"the issued certificate begins {issued.not_valid_before_utc:%Y-%m-%d %H:%M}, before the old one",
            "is the platform's clock right?",
        )
    return chain


def _path(
    issued: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    kind: Kind,
    verifier: CertificateVerifier,
) -> tuple[list[bytes], VerifiedCertificate]:
    """The shortest chain that the verifier takes: an intermediate is added only where one is missing."""
    chain = [issued]
    while True:
        presented = [certificate.public_bytes(Encoding.DER) for certificate in chain]
        try:
            return presented, verifier.verify(presented, kind)
        except PolicyRefused as error:
            issuer = next((each for each in authorities if _issued_by(chain[-1], each)), None)
            # A self-signed one is a root, and no root of the verifier's, or it had been found.
            ends = (
                issuer is None or issuer.issuer == issuer.subject or issuer in chain or len(chain) == MAX_PATH
            )
            if error.reason != "chain-untrusted" or issuer is None or ends:
                raise
            chain.append(issuer)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def _point(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except MALFORMED:
        return b""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _terminal(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return terminal_of(names)
    except (*MALFORMED, x509.ExtensionNotFound):
        return ""
