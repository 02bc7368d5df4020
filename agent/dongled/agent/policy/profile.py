"""The certificate profile, fixed once: docs/certificates.md is its text, this is its code.

Nothing here changes without a new arc: certificates outlive the software that issued them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

# ITU-T X.667, 7: an arc under 2.25 needs no registration. UUID 91e9020e-4e72-4107-95d3-0208d1a9cd73.
ARC = "2.25.193947906255142854314786756687469071731"


class Role(StrEnum):
    """What a terminal may do; a certificate carries one policy OID for each."""

    PUBLISHER = "publisher"
    VIEWER = "viewer"
    MODERATOR = "moderator"
    GATEWAY = "gateway"


class Assurance(StrEnum):
    """Where the issuer made sure that the private key lives."""

    SOFTWARE = "software"
    HARDWARE = "hardware"

    def satisfies(self, minimum: Assurance) -> bool:
        return self is minimum or self is Assurance.HARDWARE


class Kind(StrEnum):
    """Which of a terminal's two keys a certificate is for."""

    IDENTITY = "identity"
    DATA = "data"


ROLE_OIDS = {
    Role.PUBLISHER: x509.ObjectIdentifier(f"{ARC}.1.1"),
    Role.VIEWER: x509.ObjectIdentifier(f"{ARC}.1.2"),
    Role.MODERATOR: x509.ObjectIdentifier(f"{ARC}.1.3"),
    Role.GATEWAY: x509.ObjectIdentifier(f"{ARC}.1.4"),
}
ASSURANCE_OIDS = {
    Assurance.SOFTWARE: x509.ObjectIdentifier(f"{ARC}.2.1"),
    Assurance.HARDWARE: x509.ObjectIdentifier(f"{ARC}.2.2"),
}

LEAF_CURVES = ("secp256r1",)
ISSUER_CURVES = ("secp256r1", "secp384r1")

MAX_CERTIFICATE = 8192  # bytes of DER
MAX_PATH = 4  # certificates from the leaf to the root, both counted
MAX_SUBJECT = 256  # characters of RFC 4514


# What cryptography raises where a certificate, request or list is none, at once or when a part is first read.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class ProfileViolation(ValueError):
    """A name or key that the profile does not have. ``reason`` is a stable short name."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def terminal_urn(text: str) -> str:
    """``text`` if it is a ``urn:uuid:`` in its one canonical, lower-case spelling (RFC 9562, 4).

    One spelling, since lists and two certificates of a terminal are compared as text. Raises
    ProfileViolation ``bad-san``.
    """
    prefix, _, tail = text.rpartition(":")
    try:
        canonical = str(UUID(tail))
    except ValueError:
        canonical = ""
    if prefix != "urn:uuid" or tail != canonical or UUID(tail).int == 0:
        raise ProfileViolation("bad-san", f"{text[:80]!r} is not a lower-case urn:uuid:")
    return text


def terminal_of(names: Iterable[x509.GeneralName]) -> str:
    """The terminal's URN from the names of a SAN, which must hold it and nothing else."""
    found = list(names)
    if len(found) != 1 or not isinstance(found[0], x509.UniformResourceIdentifier):
        raise ProfileViolation("bad-san", f"the SAN has {len(found)} names, not exactly one URI")
    return terminal_urn(found[0].value)


def subject_of(name: x509.Name) -> str:
    """The subject as RFC 4514 text, fit to be shown in logs. Raises ProfileViolation ``bad-subject``."""
    text = name.rfc4514_string()
    if not text or len(text) > MAX_SUBJECT or not text.isprintable():
        raise ProfileViolation(
            "bad-subject", f"the subject is empty, unprintable or longer than {MAX_SUBJECT} characters"
        )
    return text


def require_curve(key: object, curves: tuple[str, ...], whose: str) -> ec.EllipticCurvePublicKey:
    """``key`` if it is on one of ``curves``. Raises ProfileViolation ``weak-key``."""
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in curves:
        return key
    found = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
    raise ProfileViolation("weak-key", f"{whose} is a {found} key, the profile wants {' or '.join(curves)}")
