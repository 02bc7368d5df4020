"""A YubiKey's version, and its word that a key was made on it.

https://developers.yubico.com/PIV/Introduction/PIV_attestation.html
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.card import apdu
from support.card.apdu import Refused
from support.card.piv_keys import Key

FIRMWARE = bytes((5, 4, 3))

_ARC = "1.3.6.1.4.1.41482.3"
_VERSION, _SERIAL, _POLICIES = (x509.ObjectIdentifier(f"{_ARC}.{number}") for number in (3, 7, 8))


class Attestation:
    """A root like the maker's, the card's own certificate F9 under it, and statements under that."""

    def __init__(self, serial: int) -> None:
        self._serial = serial
        root_key = ec.generate_private_key(ec.SECP256R1())
        root_name, name = _name("Test PIV Root CA"), _name("Test PIV Attestation")
        self.root = _certify(root_name, root_name, root_key.public_key(), root_key, authority=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _certify(name, root_name, self._key.public_key(), root_key, authority=True)

    @property
    def certificate(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.DER)

    def attest(self, slot: int, key: Key) -> bytes:
        """A certificate of the slot's key, DER. Imported keys get none."""
        if not key.generated:
            raise Refused(apdu.WRONG_DATA)
        number = self._serial.to_bytes(4, "big")
        extensions = (
            x509.UnrecognizedExtension(_VERSION, FIRMWARE),
            x509.UnrecognizedExtension(_SERIAL, b"\x02\x05\x00" + number),
            x509.UnrecognizedExtension(_POLICIES, bytes((key.pin_policy, key.touch_policy))),
        )
        statement = _certify(
            _name(f"YubiKey PIV Attestation {slot:02x}"),
            self._certificate.subject,
            key.private.public_key(),
            self._key,
            extensions,
        )
        return statement.public_bytes(serialization.Encoding.DER)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certify(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    by: ec.EllipticCurvePrivateKey,
    extensions: tuple[x509.UnrecognizedExtension, ...] = (),
    *,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(by, hashes.SHA256())
