"""An authenticator's PIN, and how a host proves that it knows it (CTAP 2.1, 6.5: PIN/UV auth protocols).

https://fidoalliance.org/specs/fido-v2.1-ps-20210615/fido-client-to-authenticator-protocol-v2.1-ps-20210615.html
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from support.card.fido_errors import CtapRefused, Status

RETRIES = 8
# 6.5.5.7: after as many wrong ones in a row it wants to be plugged in again.
_IN_A_ROW = 3
_P256 = ec.SECP256R1()


class PinProtocol:
    """One of the two ways to agree on a key with the host and to encrypt under it (6.5.6 and 6.5.7)."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._private = ec.generate_private_key(_P256)

    def public_key(self) -> dict[int, Any]:
        """COSE, as getKeyAgreement returns it."""
        numbers = self._private.public_key().public_numbers()
        return {1: 2, 3: -25, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}

    def decapsulate(self, peer: Any) -> bytes:
        try:
            point = b"\x04" + peer[-2] + peer[-3]
            z = self._private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_P256, point))
        except (KeyError, TypeError, ValueError):
            raise CtapRefused(Status.INVALID_PARAMETER) from None
        if self.version == 1:
            return hashlib.sha256(z).digest()
        return b"".join(
            HKDF(hashes.SHA256(), 32, bytes(32), info).derive(z)
            for info in (b"CTAP2 HMAC key", b"CTAP2 AES key")
        )

    def authenticate(self, key: bytes, message: bytes) -> bytes:
        tag = hmac.digest(key[:32], message, "sha256")
        return tag[:16] if self.version == 1 else tag

    def verify(self, key: bytes, message: bytes, tag: Any) -> None:
        if not isinstance(tag, bytes) or not hmac.compare_digest(self.authenticate(key, message), tag):
            raise CtapRefused(Status.PIN_AUTH_INVALID)

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        iv = bytes(16) if self.version == 1 else secrets.token_bytes(16)
        encryptor = self._cipher(key, iv).encryptor()
        sealed = encryptor.update(plain) + encryptor.finalize()
        return sealed if self.version == 1 else iv + sealed

    def decrypt(self, key: bytes, sealed: Any) -> bytes:
        if not isinstance(sealed, bytes) or len(sealed) % 16 or len(sealed) < 16 * self.version:
            raise CtapRefused(Status.INVALID_PARAMETER)
        iv, sealed = (bytes(16), sealed) if self.version == 1 else (sealed[:16], sealed[16:])
        decryptor = self._cipher(key, iv).decryptor()
        return decryptor.update(sealed) + decryptor.finalize()

    def _cipher(self, key: bytes, iv: bytes) -> Cipher[modes.CBC]:
        return Cipher(algorithms.AES(key[-32:]), modes.CBC(iv))


class FidoPin:
    """``left`` of eight tries; after three wrong ones in a row none is judged until the power was off."""

    def __init__(self, pin: str | None) -> None:
        self.left = RETRIES
        self._in_a_row = 0
        self._hash = None if pin is None else _hash(pin.encode())

    @property
    def is_set(self) -> bool:
        return self._hash is not None

    def powered_off(self) -> None:
        self._in_a_row = 0

    def set_padded(self, padded: bytes) -> None:
        """6.5.5.5: 64 bytes, padded with zeros, at least four characters of UTF-8."""
        pin = padded.rstrip(b"\0")
        if len(padded) != 64:
            raise CtapRefused(Status.INVALID_PARAMETER)
        if len(pin.decode("utf-8", "replace")) < 4 or len(pin) > 63:
            raise CtapRefused(Status.PIN_POLICY_VIOLATION)
        self._hash = _hash(pin)
        self.left = RETRIES

    def check(self, pin_hash: bytes) -> None:
        """6.5.5.7.1: the counter goes down before the PIN is looked at."""
        if self._hash is None:
            raise CtapRefused(Status.PIN_NOT_SET)
        self.require_tries()
        self.left -= 1
        if not hmac.compare_digest(self._hash, pin_hash):
            self._in_a_row += 1
            self.require_tries()
            raise CtapRefused(Status.PIN_INVALID)
        self.left, self._in_a_row = RETRIES, 0

    def require_tries(self) -> None:
        if self.left == 0:
            raise CtapRefused(Status.PIN_BLOCKED)
        if self._in_a_row >= _IN_A_ROW:
            raise CtapRefused(Status.PIN_AUTH_BLOCKED)


def _hash(pin: bytes) -> bytes:
    return hashlib.sha256(pin).digest()[:16]
