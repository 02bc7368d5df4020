"""Certificates as good or as bad as a test wants them; each default is a good terminal's."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TERMINAL = "urn:uuid:6a1d5c3e-7c0b-4f5e-9d53-0c1f8b7c2a11"
OTHER_TERMINAL = "urn:uuid:0f3c8a42-51d7-4a3e-8f6c-7e2b9d4c5a22"
VIEWER = (ROLE_OIDS[Role.VIEWER], ASSURANCE_OIDS[Assurance.SOFTWARE])
EVERY_POLICY = x509.ObjectIdentifier("2.5.29.32.0")

Extension = tuple[x509.ExtensionType, bool]


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def urn() -> str:
    return uuid.uuid4().urn


def uris(*texts: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(text) for text in texts]


def usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
        "crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{each: each in names for each in every.split()})


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def point(key: Any) -> bytes:
    public = key.public_key() if hasattr(key, "public_key") else key
    encoded: bytes = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return encoded


def build(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Any,
    signer: Any,
    extensions: Iterable[Extension],
    begin: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number(), begin, end)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


@dataclass(frozen=True)
class Authority:
    """A CA: its key and its certificate. What it makes is signed by that key in its name."""

    key: Any
    certificate: x509.Certificate

    @classmethod
    def root(cls, text: str = "root", key: Any = None, **how: Any) -> Authority:
        key = key or new_key()
        return cls(
            key, build(name(text), name(text), key.public_key(), key, _issuer(key, key, **_taken(how)), **how)
        )

    def intermediate(self, text: str = "intermediate", key: Any = None, **how: Any) -> Authority:
        key = key or new_key()
        extensions = _issuer(key, self.key, **_taken(how))
        return Authority(
            key, build(name(text), self.certificate.subject, key.public_key(), self.key, extensions, **how)
        )

    def leaf(
        self,
        key: Any = None,
        *,
        subject: x509.Name | None = None,
        san: Sequence[x509.GeneralName] | None = None,
        san_critical: bool = False,
        policies: Sequence[x509.ObjectIdentifier] = VIEWER,
        policies_critical: bool = False,
        key_usage: x509.KeyUsage | None = None,
        purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        ca: bool = False,
        without: Sequence[type[x509.ExtensionType]] = (),
        extra: Sequence[Extension] = (),
        **how: Any,
    ) -> x509.Certificate:
        """An identity certificate of TERMINAL, a viewer's, or what the arguments make of it."""
        key = key or new_key()
        extensions: list[Extension] = [
            (x509.BasicConstraints(ca=ca, path_length=None), True),
            (key_usage or usage("digital_signature"), True),
            (x509.ExtendedKeyUsage(purposes), False),
            (x509.SubjectAlternativeName(uris(TERMINAL) if san is None else san), san_critical),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ]
        if policies:
            held = [x509.PolicyInformation(policy, None) for policy in policies]
            extensions.append((x509.CertificatePolicies(held), policies_critical))
        extensions = [each for each in extensions if not isinstance(each[0], tuple(without))]
        public = key.public_key() if hasattr(key, "public_key") else key
        return build(
            name("terminal") if subject is None else subject,
            self.certificate.subject,
            public,
            self.key,
            [*extensions, *extra],
            **how,
        )

    def data_leaf(self, key: Any = None, **how: Any) -> x509.Certificate:
        how = {"key_usage": usage("key_agreement"), "policies": VIEWER[1:], **how}
        return self.leaf(key, **how)


def _taken(how: dict[str, Any]) -> dict[str, Any]:
    return {
        each: how.pop(each) for each in ("path_length", "ca", "key_usage", "policies", "extra") if each in how
    }


def _issuer(
    key: Any,
    signer: Any,
    path_length: int | None = None,
    ca: bool = True,
    key_usage: x509.KeyUsage | None = None,
    policies: Sequence[x509.ObjectIdentifier] = (EVERY_POLICY,),
    extra: Sequence[Extension] = (),
) -> list[Extension]:
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=ca, path_length=path_length), True),
        (key_usage or usage("key_cert_sign", "crl_sign"), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    if policies:
        held = [x509.PolicyInformation(policy, None) for policy in policies]
        extensions.append((x509.CertificatePolicies(held), False))
    return [*extensions, *extra]
