"""A PIV card's management key, 9B: proven by both sides, then replaced.

NIST SP 800-73-4, part 2, A.1 (mutual authentication); SP 800-78-4, table 6-2 (algorithms). Which algorithm
the key has is asked by Yubico's GET METADATA; cards that do not know it have three-key Triple DES.
"""

from __future__ import annotations

import hmac
import secrets

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, algorithms, modes

from dongled.tokens.contact import OK, Transmit, exchange
from dongled.tokens.errors import TokenError
from dongled.tokens.pin import Pin

_KEY = 0x9B
_METADATA, _AUTHENTICATE, _SET = 0xF7, 0x87, 0xFF
_TEMPLATE, _WITNESS, _CHALLENGE, _RESPONSE = 0x7C, 0x80, 0x81, 0x82
# Algorithm: bytes of key and of block.
_SIZES = {0x03: (24, 8), 0x08: (16, 16), 0x0A: (24, 16), 0x0C: (32, 16)}
_TDES = 0x03


def replace_key(transmit: Transmit, old: Pin, new: Pin) -> None:
    """Prove the old key and set the new one, of the same algorithm. Raises TokenError and OSError."""
    algorithm = _algorithm(transmit)
    known, wanted = _octets(old, algorithm), _octets(new, algorithm)
    _authenticate(transmit, algorithm, known)
    data = bytes((algorithm, _KEY, len(wanted))) + wanted
    _, status = exchange(transmit, bytes((0, _SET, 0xFF, 0xFF)), data)
    if status != OK:
        raise TokenError(
            "token-unable",
            f"the card does not take another management key ({status:04X})",
            "take its maker's own tool",
        )


def _algorithm(transmit: Transmit) -> int:
    answer, status = exchange(transmit, bytes((0, _METADATA, 0, _KEY)))
    # Its first field is the algorithm.
    if status != OK or answer[:2] != b"\x01\x01":
        return _TDES
    if len(answer) < 3 or answer[2] not in _SIZES:
        raise TokenError("token-unable", "the management key's algorithm is not known here", "update dongled")
    return answer[2]


def _octets(pin: Pin, algorithm: int) -> bytes:
    size, _ = _SIZES[algorithm]
    try:
        key = bytes.fromhex(pin.reveal())
    except ValueError:
        key = b""
    if len(key) != size:
        raise TokenError(
            "pin-malformed",
            f"this card's management key is {2 * size} hexadecimal digits",
            "write it as such, the old one and the new",
        )
    return key


def _authenticate(transmit: Transmit, algorithm: int, key: bytes) -> None:
    """A.1: the card has us decrypt its witness, and encrypts our challenge."""
    _, size = _SIZES[algorithm]
    kind: BlockCipherAlgorithm = TripleDES(key) if algorithm == _TDES else algorithms.AES(key)
    # One block each, as the standard has it.
    cipher = Cipher(kind, modes.ECB())
    command = bytes((0, _AUTHENTICATE, algorithm, _KEY))
    sealed = _field(*exchange(transmit, command, bytes((_TEMPLATE, 2, _WITNESS, 0))), _WITNESS, size)
    decryptor, encryptor = cipher.decryptor(), cipher.encryptor()
    challenge = secrets.token_bytes(size)
    fields = bytes((_WITNESS, size)) + decryptor.update(sealed) + bytes((_CHALLENGE, size)) + challenge
    answer, status = exchange(transmit, command, bytes((_TEMPLATE, len(fields))) + fields)
    response = _field(answer, status, _RESPONSE, size)
    if not hmac.compare_digest(response, encryptor.update(challenge)):
        raise _refused()


def _field(answer: bytes, status: int, tag: int, size: int) -> bytes:
    if status != OK or answer[:-size] != bytes((_TEMPLATE, size + 2, tag, size)):
        raise _refused()
    return answer[-size:]


def _refused() -> TokenError:
    return TokenError(
        "pin-wrong", "the card refused the management key", "give the one that it has; tries are not counted"
    )
