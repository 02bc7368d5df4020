"""Did a token's maker say that a terminal's keys were made on a token of his?

YubiKeys say so of PIV keys: a certificate of the key, signed by a key of the device, whose certificate the
maker signed. https://developers.yubico.com/PIV/Introduction/PIV_attestation.html

1. strict parsing      reading a statement differently than its maker wrote it
2. the path            anybody's statement: it must lead to a configured root of makers'
3. the keys            a statement about another key than the announced ones, the data key's included
4. the kind            the device's own certificate, or any other of the maker's, passing for a statement
5. one device          keys of two devices passing for a terminal's

The path is `cryptography`'s to build. Makers' certificates are no web servers', so of extensions it asks for
an issuer's basic constraints alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import CheckedCertificate, PolicyRefused, Presented
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.evidence import EvidenceSource
from dongled.agent.policy.profile import MALFORMED
from dongled.agent.protocol.api import Evidence, EvidenceWanted

# Issuers between a statement and its root: the device, and what the maker may have put above it.
MAX_ISSUERS = 4
_ARC = "1.3.6.1.4.1.41482.3"
_FIRMWARE, _SERIAL, _POLICIES = (f"{_ARC}.{number}" for number in (3, 7, 8))
_PIN = {1: "never", 2: "once", 3: "always"}
_TOUCH = {1: "never", 2: "always", 3: "cached"}


@dataclass(frozen=True, slots=True)
class Statement:
    """What a verified statement says. ``serial`` is the device's, 0 where it keeps it to itself."""

    subject: str
    public_key: ec.EllipticCurvePublicKey
    firmware: str
    serial: int
    pin: str
    touch: str


class Attestation:
    """Verifies statements to ``roots``, each some bytes of PEM or DER; the ``EvidenceCheck`` of attestation.

    ``required``: who shows none is refused. What is shown has to hold in any case. Raises AgentError
    ``attestation-roots``.
    """

    def __init__(self, roots: Sequence[bytes], clock: TrustedClock, *, required: bool = True) -> None:
        self._clock = clock
        self._required = required
        self._builder = (
            PolicyBuilder()
            .store(Store(_roots(roots)))
            .max_chain_depth(MAX_ISSUERS)
            .extension_policies(
                ca_policy=ExtensionPolicy.permit_all().require_present(
                    x509.BasicConstraints, Criticality.AGNOSTIC, _require_authority
                ),
                ee_policy=ExtensionPolicy.permit_all(),
            )
        )

    def check(self, identity: CheckedCertificate, presented: Presented, stream: str) -> Sequence[str]:
        """Both keys of a terminal, whatever the stream. Raises PolicyRefused."""
        shown = presented.evidence.attestation
        if not shown:
            if self._required:
                raise PolicyRefused(
                    "not-attested",
                    f"{identity.terminal} shows no word of its token's maker, which is required here",
                    "its keys have to be made on a token that attests to it ('dongled token attest')",
                )
            return ()
        statements = self.verify(shown, [identity.public_key, presented.data_key])
        return [f"keys made on a YubiKey ({statements[0].serial}, firmware {statements[0].firmware})"]

    def verify(self, shown: Sequence[bytes], keys: Sequence[ec.EllipticCurvePublicKey]) -> list[Statement]:
        """The statements (DER, in any order with their issuers) about these keys. Raises PolicyRefused."""
        # 1.
        certificates = [_parsed(der) for der in shown]
        by_key = {_point(certificate): certificate for certificate in certificates}
        found, devices = [], set()
        for key in keys:
            # 3.
            about = by_key.get(_encoded(key))
            if about is None:
                raise PolicyRefused(
                    "attestation-other-key",
                    "the attestation is not about the keys that the terminal announced",
                )
            # 2.
            devices.add(self._device(about, [each for each in certificates if each is not about]))
            # 4.
            found.append(_statement(about, key))
        # 5.
        if len(devices) > 1 or len({statement.serial for statement in found}) > 1:
            raise PolicyRefused("attestation-two-devices", "the attested keys are on different devices")
        return found

    def _device(self, about: x509.Certificate, others: list[x509.Certificate]) -> bytes:
        """The key of the device that stated it, once that leads to a root. It may hide its serial number."""
        try:
            verified = self._builder.time(self._clock.now()).build_client_verifier().verify(about, others)
        except VerificationError as error:
            raise PolicyRefused(
                "attestation-untrusted", f"the attestation leads to none of the configured roots: {error}"
            ) from error
        device = verified.chain[min(1, len(verified.chain) - 1)]
        return device.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def attestations(shown: Sequence[bytes]) -> EvidenceSource:
    """``shown``: what this terminal's token says of its keys (DER)."""

    async def gather(wanted: EvidenceWanted) -> Evidence:
        return Evidence(attestation=tuple(shown))

    return gather


def _roots(roots: Sequence[bytes]) -> list[x509.Certificate]:
    try:
        found = [root for data in roots for root in _loaded(data)]
        for root in found:
            _require_authority(
                None, None, root.extensions.get_extension_for_class(x509.BasicConstraints).value
            )
    except (*MALFORMED, x509.ExtensionNotFound) as error:
        raise AgentError(
            "attestation-roots",
            f"a root of attestation cannot be used: {error}",
            "give the maker's, as PEM or DER",
        ) from None
    if not found:
        raise AgentError(
            "attestation-roots",
            "attestation is required and no root of it is configured",
            "name the token maker's root in trust.attestation-roots",
        )
    return found


def _loaded(data: bytes) -> list[x509.Certificate]:
    if data.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


def _require_authority(policy: object, certificate: object, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("it is not an authority's")


def _parsed(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
        _ = (certificate.extensions, certificate.subject, certificate.issuer, certificate.not_valid_after_utc)
    except MALFORMED as error:
        raise PolicyRefused("attestation-garbage", f"no certificate: {error}") from error
    return certificate


def _statement(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey) -> Statement:
    extensions = {
        extension.oid.dotted_string: extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    firmware, policies = extensions.get(_FIRMWARE, b""), extensions.get(_POLICIES, b"")
    authority = any(
        isinstance(extension.value, x509.BasicConstraints) for extension in certificate.extensions
    )
    if authority or len(firmware) != 3 or len(policies) != 2:
        raise PolicyRefused(
            "attestation-garbage", "the certificate of the key does not say which device made it, and how"
        )
    # DER of an INTEGER.
    serial = int.from_bytes(extensions.get(_SERIAL, b"\0\0")[2:])
    return Statement(
        certificate.subject.rfc4514_string(),
        key,
        ".".join(map(str, firmware)),
        serial,
        _PIN.get(policies[0], "unknown"),
        _TOUCH.get(policies[1], "unknown"),
    )


def _point(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return _encoded(key) if isinstance(key, ec.EllipticCurvePublicKey) else b""


def _encoded(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
