"""Is this chain of certificates a terminal's, and what may that terminal do?

Each step prevents something:

 1. sizes and counts        a peer making us parse for ever
 2. strict parsing          reading a certificate differently than its issuer wrote it
 3. trusted time            judging by a clock that nobody vouches for
 4. the path (RFC 5280, 6)  a certificate that no configured root stands for, has expired, is an issuer's own,
                            was given by somebody who may not issue, or says something critical unknown here
 5. the order               certificates in the message that stand for nothing (RFC 9360, 2)
 6. keys                    a key weaker than the profile, in the leaf or above it
 7. revocation              what its issuer took back, or says nothing about: see revocation.py
 8. usage                   a server's, a signer's or a data key's certificate passing for an identity
 9. the name                a terminal of two names or none, a name that forges a log line
10. the policies            an intermediate giving roles or assurance that it was not given itself

The path is `cryptography`'s to build: it bounds depth and signature checks, and knows the algorithms that
may sign. Its error is one sentence; REASONS names it, and what it does not know stays ``chain-untrusted``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import (
    ASSURANCE_OIDS,
    ISSUER_CURVES,
    LEAF_CURVES,
    MALFORMED,
    MAX_CERTIFICATE,
    MAX_PATH,
    ROLE_OIDS,
    Assurance,
    Kind,
    ProfileViolation,
    Role,
    require_curve,
    subject_of,
    terminal_of,
)
from dongled.agent.policy.revocation import Revocations

# What the path's verifier says, and what it is called here. The texts are cryptography 50's, held by a test
# each; a text that changes makes a reason coarser and lets nothing pass.
REASONS = (
    ("unaccounted-for critical extensions", "unknown-critical-extension"),
    ("invalid extension: 2.5.29.17:", "bad-san"),
    ("subjectAltName", "bad-san"),
    ("missing required extension", "missing-extension"),
    ("basicConstraints.cA must not be asserted", "leaf-is-ca"),
    ("EE keyUsage must not assert keyCertSign", "leaf-is-ca"),
    ("basicConstraints.cA must be asserted", "issuer-not-ca"),
    ("keyUsage.keyCertSign must be asserted", "issuer-not-ca"),
    ("path length constraint violated", "path-too-long"),
    ("name constraint", "name-constraints"),
    ("nameConstraints", "name-constraints"),
    ("EKU", "wrong-extended-usage"),
    ("Forbidden public key algorithm", "weak-key"),
    ("RSA key is too weak", "weak-key"),
    ("Forbidden signature algorithm", "weak-signature"),
)

# RFC 5280, 4.2.1.5, 4.2.1.11 and 4.2.1.14: they change what policies mean on the way down.
POLICY_REWRITING = tuple(map(x509.ObjectIdentifier, ("2.5.29.33", "2.5.29.36", "2.5.29.54")))
E = TypeVar("E", bound=x509.ExtensionType)
ANY_POLICY = x509.ObjectIdentifier("2.5.29.32.0")


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """A leaf that passed every step.

    ``sha256`` is of its DER, ``valid_until`` the earliest end in its path, aware, ``path`` leaf first,
    root last.
    """

    sha256: bytes
    terminal: str
    subject: str
    public_key: ec.EllipticCurvePublicKey
    roles: frozenset[Role]
    assurance: Assurance
    valid_until: datetime
    path: tuple[x509.Certificate, ...]


class CertificateVerifier:
    """Verifies chains to ``roots``, each some bytes of PEM (one or more certificates) or DER.

    A root may be an intermediate of the customer's: what is above it is not looked at. ``revocations`` None:
    nothing is ever taken for revoked. Raises AgentError ``no-roots`` or ``bad-root``.
    """

    def __init__(
        self, roots: Sequence[bytes], clock: TrustedClock, revocations: Revocations | None = None
    ) -> None:
        anchors = [certificate for data in roots for certificate in _load_root(data)]
        if not anchors:
            raise AgentError(
                "no-roots",
                "no trusted root certificate is configured",
                "name the root's file in trusted roots",
            )
        self._clock = clock
        self._revocations = revocations
        self._builder = (
            PolicyBuilder()
            .store(Store(anchors))
            .max_chain_depth(MAX_PATH - 2)
            .extension_policies(
                # certificatePolicies are judged in step 10, so they may be critical.
                ca_policy=ExtensionPolicy.webpki_defaults_ca().may_be_present(
                    x509.CertificatePolicies, Criticality.AGNOSTIC, None
                ),
                ee_policy=ExtensionPolicy.webpki_defaults_ee().may_be_present(
                    x509.CertificatePolicies, Criticality.AGNOSTIC, None
                ),
            )
        )

    def verify(self, chain: Sequence[bytes], kind: Kind) -> VerifiedCertificate:
        """Verify a chain, DER, leaf first. Raises PolicyRefused, with a reason for each step."""
        try:
            return self._verify(chain, kind)
        except ProfileViolation as error:
            raise PolicyRefused(error.reason, str(error)) from error

    def path(self, chain: Sequence[bytes]) -> tuple[list[x509.Certificate], datetime]:
        """Steps 1 to 6: a chain's path to a root, and the time it was judged at. Raises PolicyRefused."""
        try:
            return self._path(chain)
        except ProfileViolation as error:
            raise PolicyRefused(error.reason, str(error)) from error

    def _path(self, chain: Sequence[bytes]) -> tuple[list[x509.Certificate], datetime]:
        # 1.
        if not chain:
            raise PolicyRefused("chain-empty", "no certificate was presented")
        if len(chain) > MAX_PATH:
            raise PolicyRefused("chain-too-long", f"{len(chain)} certificates, at most {MAX_PATH} are read")
        for der in chain:
            if len(der) > MAX_CERTIFICATE:
                raise PolicyRefused("certificate-too-large", f"{len(der)} bytes, at most {MAX_CERTIFICATE}")
        if len(set(chain)) != len(chain):
            raise PolicyRefused("chain-loop", "a certificate occurs twice in the chain")

        # 2.
        certificates = [_parse(der) for der in chain]
        leaf = certificates[0]

        # 3.
        now = self._clock.now()

        # 4.
        try:
            path = self._builder.time(now).build_client_verifier().verify(leaf, certificates[1:]).chain
        except VerificationError as error:
            raise _refusal(str(error), certificates, now) from error
        for issuer in path[1:]:
            _require_critical_constraints(issuer)

        # 5.
        if path[: len(certificates)] != certificates:
            raise PolicyRefused(
                "chain-disorder", "the chain is out of order or holds certificates that it does not need"
            )

        # 6.
        require_curve(leaf.public_key(), LEAF_CURVES, "the leaf's")
        for issuer in path[1:]:
            require_curve(issuer.public_key(), ISSUER_CURVES, "an issuer's")
        return path, now

    def _verify(self, chain: Sequence[bytes], kind: Kind) -> VerifiedCertificate:
        path, now = self._path(chain)
        leaf = path[0]
        public_key = require_curve(leaf.public_key(), LEAF_CURVES, "the leaf's")

        # 7.
        if self._revocations is not None:
            self._revocations.check(path, now)

        # 8.
        _require_usage(leaf, kind)

        # 9.
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        terminal, subject = terminal_of(san), subject_of(leaf.subject)

        # 10.
        policies = _effective_policies(path)
        roles = frozenset(role for role, oid in ROLE_OIDS.items() if oid in policies)
        levels = [level for level, oid in ASSURANCE_OIDS.items() if oid in policies]
        if len(levels) > 1:
            raise PolicyRefused("bad-assurance", "the certificate claims two levels of assurance")

        return VerifiedCertificate(
            sha256=leaf.fingerprint(hashes.SHA256()),
            terminal=terminal,
            subject=subject,
            public_key=public_key,
            roles=roles,
            assurance=levels[0] if levels else Assurance.SOFTWARE,
            valid_until=min(certificate.not_valid_after_utc for certificate in path),
            path=tuple(path),
        )


def _load_root(data: bytes) -> list[x509.Certificate]:
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            found = x509.load_pem_x509_certificates(data)
        else:
            found = [x509.load_der_x509_certificate(data)]
        for root in found:
            # A leaf in the store would be its own proof.
            constraints = _extension(root, x509.BasicConstraints)
            if constraints is None or not constraints.ca:
                raise ProfileViolation("bad-root", "it is not a certificate authority's")
            require_curve(root.public_key(), ISSUER_CURVES, "the root's")
    except MALFORMED as error:
        raise AgentError(
            "bad-root", f"a trusted root cannot be used: {error}", "give the CA's certificate, as PEM or DER"
        ) from error
    return found


def _parse(der: bytes) -> x509.Certificate:
    """``der`` with every part that is read later parsed now, since cryptography parses late."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
        _ = (certificate.version, certificate.extensions, certificate.subject, certificate.issuer)
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except UnsupportedAlgorithm as error:
        raise PolicyRefused("weak-key", f"a key of an unknown kind: {error}") from error
    except MALFORMED as error:
        raise PolicyRefused("certificate-garbage", f"not a certificate: {error}") from error
    # RFC 5280, 4.1.2.2: positive. Revocation goes by it.
    if certificate.serial_number <= 0:
        raise PolicyRefused("certificate-garbage", "its serial number is not positive")
    return certificate


def _refusal(text: str, certificates: list[x509.Certificate], now: datetime) -> PolicyRefused:
    if "not valid at validation time" in text:
        early = any(now < certificate.not_valid_before_utc for certificate in certificates)
        late = any(now > certificate.not_valid_after_utc for certificate in certificates)
        if early and not late:
            return PolicyRefused(
                "not-yet-valid", f"a certificate is not valid yet at {now:%Y-%m-%d %H:%M} UTC"
            )
        return PolicyRefused("expired", f"a certificate or its root has expired at {now:%Y-%m-%d %H:%M} UTC")
    reason = next((reason for sign, reason in REASONS if sign in text), "chain-untrusted")
    return PolicyRefused(reason, text)


def _require_critical_constraints(issuer: x509.Certificate) -> None:
    # RFC 5280, 4.2.1.10: critical, always. The path's verifier passes over a kind that it does not know when
    # they are not.
    for extension in issuer.extensions:
        if isinstance(extension.value, x509.NameConstraints) and not extension.critical:
            raise PolicyRefused("name-constraints", "an issuer's name constraints are not critical")


def _require_usage(leaf: x509.Certificate, kind: Kind) -> None:
    # RFC 5280, 4.2.1.12: without the extension every purpose is allowed, so absence is refused.
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise PolicyRefused("wrong-extended-usage", "the certificate is not for clientAuth")

    # RFC 5280, 4.2.1.3
    usage = _extension(leaf, x509.KeyUsage)
    signs = usage is not None and usage.digital_signature
    agrees = usage is not None and usage.key_agreement
    if (signs, agrees) != (kind is Kind.IDENTITY, kind is Kind.DATA):
        wanted = "digitalSignature" if kind is Kind.IDENTITY else "keyAgreement"
        raise PolicyRefused(
            "wrong-usage", f"of digitalSignature and keyAgreement it must have {wanted} alone"
        )


def _effective_policies(path: Sequence[x509.Certificate]) -> frozenset[x509.ObjectIdentifier]:
    """The leaf's policies that every intermediate has too, or has anyPolicy (RFC 5280, 6.1.3 d)."""
    policies = _policies(path[0])
    for issuer in path[1:-1]:
        if any(extension.oid in POLICY_REWRITING for extension in issuer.extensions):
            raise PolicyRefused("policy-rewriting", "an intermediate maps or constrains policies")
        granted = _policies(issuer)
        if ANY_POLICY not in granted:
            policies &= granted
    return policies


def _policies(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    found = _extension(certificate, x509.CertificatePolicies)
    return frozenset(information.policy_identifier for information in found or ())


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
