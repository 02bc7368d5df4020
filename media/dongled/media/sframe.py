"""Secure Frames: RFC 9605, cipher suites 4 and 5, the ones with a full AES-GCM tag.

https://www.rfc-editor.org/rfc/rfc9605. ``derive`` a key once, then ``seal`` and ``open`` with it. Nothing
here keeps a counter or a replay window: see ``keyring``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from dongled.media.errors import FrameRejected, MediaError

MAX_VALUE = 2**64 - 1
"""The largest KID or CTR that a header carries."""

TAG_SIZE = 16
"""Nt of both suites, bytes."""

NONCE_SIZE = 12
"""Nn of both suites, bytes."""


# RFC 9605, 4.5: Cipher Suites
@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite: ``number`` in IANA's registry, ``hash_size`` is Nh, ``key_size`` Nk, in bytes."""

    number: int
    name: str
    hash: type[hashes.SHA256] | type[hashes.SHA512]
    hash_size: int
    key_size: int


SUITES = {
    4: Suite(4, "AES_128_GCM_SHA256_128", hashes.SHA256, 32, 16),
    5: Suite(5, "AES_256_GCM_SHA512_128", hashes.SHA512, 64, 32),
}


def suite_of(number: int) -> Suite:
    """The suite of that number. Raises MediaError, ``suite-refused``, for any but 4 and 5."""
    suite = SUITES.get(number)
    if suite is None:
        raise MediaError("suite-refused", f"SFrame suite {number} is not one of {sorted(SUITES)}")
    return suite


class Header(NamedTuple):
    """A parsed header: key id, counter, and how many bytes it took."""

    kid: int
    ctr: int
    size: int


# RFC 9605, 4.3: SFrame Header
def encode_header(kid: int, ctr: int) -> bytes:
    """The 1 to 17 bytes that carry ``kid`` and ``ctr``, each 0 to 2**64-1 (else ValueError)."""
    if not (0 <= kid <= MAX_VALUE and 0 <= ctr <= MAX_VALUE):
        raise ValueError("KID and CTR are unsigned 64-bit numbers")
    config, tail = 0, b""
    for value in (kid, ctr):
        config <<= 4
        if value < 8:
            config |= value
        else:
            size = (value.bit_length() + 7) // 8
            config |= 0x08 | (size - 1)
            tail += value.to_bytes(size, "big")
    return bytes((config,)) + tail


# RFC 9605, 4.3: "the value MUST be encoded with the minimum number of bytes required"
def parse_header(data: bytes) -> Header:
    """Parse the header that ``data`` starts with. Raises FrameRejected, ``malformed``.

    Only the one shortest encoding of each value is accepted.
    """
    if not data:
        raise FrameRejected("malformed", "no SFrame header")
    config, at = data[0], 1
    values = []
    for field in (config >> 4, config & 0x0F):
        if field < 8:
            values.append(field)
            continue
        size = (field & 0x07) + 1
        raw = data[at : at + size]
        if len(raw) != size:
            raise FrameRejected("malformed", "SFrame header cut short")
        value = int.from_bytes(raw, "big")
        if raw[0] == 0 or value < 8:
            raise FrameRejected("malformed", "SFrame header not in its shortest form")
        values.append(value)
        at += size
    return Header(values[0], values[1], at)


# RFC 9605, 4.4.2: Key Derivation
def derive_key_salt(suite: Suite, base_key: bytes, kid: int) -> tuple[bytes, bytes]:
    """``sframe_key`` (Nk bytes) and ``sframe_salt`` (12 bytes) of a base key."""
    secret = HKDF.extract(suite.hash(), b"", base_key)
    context = kid.to_bytes(8, "big") + suite.number.to_bytes(2, "big")

    def expand(label: bytes, size: int) -> bytes:
        return HKDFExpand(suite.hash(), size, label + context).derive(secret)

    return expand(b"SFrame 1.0 Secret key ", suite.key_size), expand(b"SFrame 1.0 Secret salt ", NONCE_SIZE)


class Key:
    """A derived key, ready to seal or open with. Its secrets are not attributes that anything prints."""

    __slots__ = ("_aead", "_salt", "kid")

    def __init__(self, suite: Suite, base_key: bytes, kid: int) -> None:
        key, salt = derive_key_salt(suite, base_key, kid)
        self.kid = kid
        self._aead = AESGCM(key)
        self._salt = int.from_bytes(salt, "big")

    # RFC 9605, 4.4.3: the salt XORed with the counter, big-endian
    def nonce(self, ctr: int) -> bytes:
        """The AEAD nonce of frame ``ctr``, 12 bytes."""
        return (self._salt ^ ctr).to_bytes(NONCE_SIZE, "big")


def derive(suite: int, base_key: bytes, kid: int) -> Key:
    """Derive the key that ``kid`` names. Raises MediaError, ``suite-refused``."""
    return Key(suite_of(suite), base_key, kid)


# RFC 9605, 4.4.3: Encryption
def seal(key: Key, ctr: int, metadata: bytes, plaintext: bytes) -> bytes:
    """Seal one frame: header, ciphertext, tag. The caller never uses a ``ctr`` twice under one key."""
    header = encode_header(key.kid, ctr)
    return header + key._aead.encrypt(key.nonce(ctr), plaintext, header + metadata)


# RFC 9605, 4.4.4: Decryption
def open(key: Key, header: Header, metadata: bytes, sealed: bytes) -> bytes:
    """Open one sealed frame, whose ``header`` was parsed from it. Raises FrameRejected, ``tag``."""
    aad = sealed[: header.size] + metadata
    try:
        return key._aead.decrypt(key.nonce(header.ctr), sealed[header.size :], aad)
    except InvalidTag:
        raise FrameRejected(
            "tag", "not sealed under this key for this stream, or changed on its way"
        ) from None
