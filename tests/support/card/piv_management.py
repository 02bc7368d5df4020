"""The card management key, 9B: who may write to the card (NIST SP 800-73-4, part 2, A.1 and A.2)."""

from __future__ import annotations

import os

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from support.card import apdu, tlv
from support.card.apdu import Refused

# SP 800-78-4, table 6-2.
_TDES, _AES = 0x03, {0x08: 16, 0x0A: 24, 0x0C: 32}
DEFAULT = bytes.fromhex("010203040506070801020304050607080102030405060708")
_WITNESS, _CHALLENGE, _RESPONSE = 0x80, 0x81, 0x82


class ManagementKey:
    """Its value and algorithm, and whether somebody authenticated with it."""

    def __init__(self) -> None:
        self._algorithm, self._key = _TDES, DEFAULT
        self._authenticated = False
        self._pending: bytes | None = None

    def require(self) -> None:
        if not self._authenticated:
            raise Refused(apdu.NOT_ALLOWED_YET)

    def forget(self) -> None:
        self._authenticated, self._pending = False, None

    def metadata(self) -> bytes:
        default = bytes((self._key == DEFAULT,))
        return tlv.encode(1, bytes((self._algorithm,))) + tlv.encode(2, b"\0\x01") + tlv.encode(5, default)

    def set(self, data: bytes) -> None:
        """Yubico's SET MANAGEMENT KEY: algorithm, 9B, length, key."""
        if len(data) < 3 or data[1] != 0x9B or len(data) != 3 + data[2]:
            raise Refused(apdu.WRONG_DATA)
        algorithm, key = data[0], data[3:]
        if len(key) != ({_TDES: 24} | _AES).get(algorithm):
            raise Refused(apdu.WRONG_DATA)
        self._algorithm, self._key = algorithm, key

    def answer(self, algorithm: int, template: dict[int, bytes]) -> bytes:
        """One step of either exchange; a wrong answer ends it."""
        # SP 800-73-4, part 2, table 7: 00 stands for three-key Triple DES.
        if (algorithm or _TDES) != self._algorithm:
            raise Refused(apdu.WRONG_P1P2)
        pending, self._pending = self._pending, None
        size = 8 if self._algorithm == _TDES else 16
        if template.get(_WITNESS) == b"":
            self._pending = os.urandom(size)
            return tlv.encode(_WITNESS, self._encrypt(self._pending))
        if template.get(_CHALLENGE) == b"":
            challenge = os.urandom(size)
            self._pending = self._encrypt(challenge)
            return tlv.encode(_CHALLENGE, challenge)
        given = template.get(_WITNESS) or template.get(_RESPONSE)
        if pending is None or given != pending:
            raise Refused(apdu.NOT_ALLOWED_YET)
        self._authenticated = True
        challenge = template.get(_CHALLENGE, b"")
        return tlv.encode(_RESPONSE, self._encrypt(challenge)) if len(challenge) == size else b""

    def _encrypt(self, block: bytes) -> bytes:
        algorithm = TripleDES(self._key) if self._algorithm == _TDES else algorithms.AES(self._key)
        encryptor: CipherContext = Cipher(algorithm, modes.ECB()).encryptor()
        return encryptor.update(block) + encryptor.finalize()
