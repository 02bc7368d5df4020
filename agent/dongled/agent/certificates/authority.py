"""Enough of a certificate authority for a lab, by the profile of docs/certificates.md.

A request is asked for its key, its subject and its terminal; what else it asks for is not looked at. Roles
and assurance are what the operator says.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from dongled.agent.errors import AgentError
from dongled.agent.policy.profile import (
    ASSURANCE_OIDS,
    ISSUER_CURVES,
    LEAF_CURVES,
    MALFORMED,
    ROLE_OIDS,
    Assurance,
    Kind,
    ProfileViolation,
    Role,
    require_curve,
    subject_of,
    terminal_of,
)

MAX_REQUEST = 16384  # bytes, PEM or DER
BACKDATE = timedelta(minutes=5)  # for terminals whose clocks are a little behind


class CaError(AgentError):
    """The authority did not sign; ``reason`` says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """A certification request whose signature holds: all of it that is ever used."""

    public_key: ec.EllipticCurvePublicKey
    subject: x509.Name
    terminal: str


def make_root(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, days: int, now: datetime
) -> x509.Certificate:
    """A self-signed root for ``key``, which issues to terminals only. Raises CaError."""
    try:
        public_key = require_curve(key.public_key(), ISSUER_CURVES, "the authority's")
        subject_of(subject)
    except ProfileViolation as error:
        raise CaError(error.reason, str(error)) from error
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public_key)
        .serial_number(_serial())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    return builder.sign(key, hash_for(key))


def load_request(data: bytes) -> Request:
    """Parse a PKCS#10 request, PEM or DER. Raises CaError, a reason for each thing wrong with it."""
    if len(data) > MAX_REQUEST:
        raise CaError("request-too-large", f"a request of {len(data)} bytes, at most {MAX_REQUEST} are read")
    pem = data.lstrip().startswith(b"-----BEGIN")
    try:
        request = x509.load_pem_x509_csr(data) if pem else x509.load_der_x509_csr(data)
        public_key = require_curve(request.public_key(), LEAF_CURVES, "the request's")
        # RFC 2986, 4.2: the signature is what proves that the requester has the key.
        if not request.is_signature_valid:
            raise CaError("request-not-signed", "the request's signature is not by the key that it names")
        subject_of(request.subject)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return Request(public_key, request.subject, terminal_of(names))
    except ProfileViolation as error:
        raise CaError(error.reason, f"the request cannot be certified: {error}") from error
    except x509.ExtensionNotFound as error:
        raise CaError(
            "bad-san",
            "the request names no terminal",
            "it needs one SAN URI, urn:uuid:...; see docs/certificates.md",
        ) from error
    except UnsupportedAlgorithm as error:
        raise CaError(
            "weak-key", f"the request has a key or a signature of an unknown kind: {error}"
        ) from error
    except MALFORMED as error:
        raise CaError("request-garbage", f"not a certification request: {error}") from error


def load_certificate(data: bytes) -> x509.Certificate:
    """Parse a certificate, PEM or DER. Raises CaError ``certificate-garbage``."""
    pem = data.lstrip().startswith(b"-----BEGIN")
    try:
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except MALFORMED as error:
        raise CaError(
            "certificate-garbage", f"not a certificate: {error}", "give it as PEM or DER"
        ) from error


def issue_identity(
    key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    request: Request,
    *,
    roles: Collection[Role],
    assurance: Assurance,
    days: int,
    now: datetime,
) -> x509.Certificate:
    """An identity certificate: for signatures, with the terminal's roles. Raises CaError."""
    if not roles:
        raise CaError("no-role", "an identity without a role may do nothing", "give at least one --role")
    policies = [ROLE_OIDS[role] for role in Role if role in roles]
    return _issue(key, root, request, Kind.IDENTITY, [*policies, ASSURANCE_OIDS[assurance]], days, now)


def issue_data(
    key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    request: Request,
    identity: x509.Certificate,
    *,
    assurance: Assurance,
    days: int,
    now: datetime,
) -> x509.Certificate:
    """A data certificate: for key agreement, beside ``identity``, which this authority issued.

    It carries an assurance and no role. Raises CaError.
    """
    try:
        identity.verify_directly_issued_by(root)
        names = identity.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        terminal = terminal_of(names)
    except (*MALFORMED, InvalidSignature, x509.ExtensionNotFound) as error:
        raise CaError(
            "bad-identity", "the identity certificate is not this authority's", "issue the identity first"
        ) from error
    if (request.subject, request.terminal) != (identity.subject, terminal):
        raise CaError(
            "identity-mismatch",
            f"the request is {request.terminal}'s ({request.subject.rfc4514_string()}), the identity "
            f"{terminal}'s ({identity.subject.rfc4514_string()})",
            "both keys of a terminal have the same subject and the same SAN URI",
        )
    if request.public_key == identity.public_key():
        raise CaError(
            "key-reused", "the request is for the identity key", "make the request for the data key"
        )
    return _issue(key, root, request, Kind.DATA, [ASSURANCE_OIDS[assurance]], days, now)


def require_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> None:
    """Raises CaError ``not-issued`` where this authority did not issue it."""
    try:
        certificate.verify_directly_issued_by(root)
    except (*MALFORMED, InvalidSignature) as error:
        raise CaError(
            "not-issued",
            f"{certificate.subject.rfc4514_string()[:256]!r} is not a certificate of this authority",
            "revoke it where it was issued",
        ) from error


def _issue(
    key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    request: Request,
    kind: Kind,
    policies: list[x509.ObjectIdentifier],
    days: int,
    now: datetime,
) -> x509.Certificate:
    if key.public_key() != root.public_key():
        raise CaError("wrong-root", "the root certificate is not of this key", 'run "dongled ca init" again')
    until = now + timedelta(days=days)
    if not root.not_valid_before_utc <= now < until <= root.not_valid_after_utc:
        begin, end = root.not_valid_before_utc, root.not_valid_after_utc
        raise CaError(
            "outside-root",
            f"the root is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, what was asked for is not within",
            "ask for fewer --days, and check the clock",
        )
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(root.subject)
        .public_key(request.public_key)
        .serial_number(_serial())
        .not_valid_before(max(now - BACKDATE, root.not_valid_before_utc))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            _key_usage(digital_signature=kind is Kind.IDENTITY, key_agreement=kind is Kind.DATA),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.CertificatePolicies([x509.PolicyInformation(policy, None) for policy in policies]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(request.terminal)]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
    )
    return builder.sign(key, hash_for(key))


def _serial() -> int:
    """128 random bits (RFC 5280, 4.1.2.2: positive, at most 20 octets)."""
    return secrets.randbits(128) or 1


def hash_for(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """What the authority signs with."""
    return hashes.SHA384() if key.key_size > 256 else hashes.SHA256()


def _key_usage(
    *,
    digital_signature: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
