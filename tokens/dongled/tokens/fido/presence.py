"""Was a registered FIDO2 key touched, for this challenge?

Web Authentication, 7.2. https://www.w3.org/TR/webauthn-3/#sctn-verifying-assertion
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256
from fido2.webauthn import AuthenticatorData, CollectedClientData

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import keys
from dongled.tokens.fido.keys import PRESENCE_RP, Person

# What a message may carry of each (docs/protocol.md, Evidence).
MOST_BYTES = 1024
# Hash of the relying party's name, flags, counter (6.1).
_HEAD = 37
_GARBAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a key said to a challenge; ``client_data`` empty: the challenge is its hash."""

    credential: bytes
    authenticator_data: bytes
    client_data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Touch:
    """``verified``: the key knew who touched it. ``count``: its signature counter, 0 if it has none."""

    verified: bool
    count: int


def answer(credentials: list[bytes], challenge: bytes, person: Person, *, verified: bool) -> Answer:
    """Have one of these credentials' key touched. Blocks. Raises TokenError."""
    done = keys.assertion(PRESENCE_RP, credentials, challenge, person, verified=verified)
    client_data = keys.client_data("webauthn.get", PRESENCE_RP, challenge)
    return Answer(done.credential, done.authenticator_data, bytes(client_data), done.signature)


def verify(public_key: bytes, challenge: bytes, given: Answer) -> Touch:
    """Each step prevents one thing:

    1. reading other than the key wrote;
    2. an answer that was given to somebody else: a website, or what unlocks a token;
    3. an answer to another challenge: another request, terminal or moment;
    4. an answer by another key;
    5. an answer that a program had without anybody touching the key.

    ``public_key`` is the registered one (COSE). Raises TokenError, each with its own reason.
    """
    # 1.
    if max(map(len, (given.authenticator_data, given.client_data, given.signature))) > MOST_BYTES:
        raise _refused("garbage", "what it shows as a FIDO2 key's answer is too large")
    data = _parsed(given.authenticator_data)
    # 2.
    if not hmac.compare_digest(data.rp_id_hash, hashlib.sha256(PRESENCE_RP.encode()).digest()):
        raise _refused("elsewhere", "the FIDO2 key answered somebody else")
    # 3.
    digest = _answered(given.client_data, challenge) if given.client_data else challenge
    # 4.
    try:
        key_of(public_key).verify(
            given.signature, given.authenticator_data + digest, ec.ECDSA(hashes.SHA256())
        )
    except (InvalidSignature, ValueError):
        raise _refused("signature", "the FIDO2 key's signature does not hold") from None
    # 5.
    if not data.is_user_present():
        raise _refused("untouched", "the FIDO2 key answered without being touched")
    return Touch(data.is_user_verified(), data.counter)


def key_of(public_key: bytes) -> ec.EllipticCurvePublicKey:
    """A COSE key for ES256 on P-256, which is all that is registered (RFC 9053, 7.1.1). Raises ValueError."""
    try:
        fields: Any = cbor.decode(public_key)
        x, y = fields[-2], fields[-3]
        if fields != {1: 2, 3: ES256.ALGORITHM, -1: 1, -2: x, -3: y} or len(x) != 32 or len(y) != 32:
            raise ValueError
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    except _GARBAGE:
        raise ValueError("it is no key for ES256") from None


def _parsed(authenticator_data: bytes) -> AuthenticatorData:
    """Raises TokenError."""
    try:
        data = AuthenticatorData(authenticator_data)
        tail = cbor.encode(data.extensions) if isinstance(data.extensions, dict) else b""
    except _GARBAGE:
        data, tail = None, b""
    # python-fido2 takes CBOR that ends too early, and other things than a map. An assertion attests nothing.
    if data is None or data.is_attested() or data[_HEAD:] != tail or data.has_extension_data() != bool(tail):
        raise _refused("garbage", "what it shows is no FIDO2 key's answer")
    return data


def _answered(client_data: bytes, challenge: bytes) -> bytes:
    """Hash of the client data, once it is about this challenge (7.2, steps 7 to 11)."""
    try:
        said = CollectedClientData(client_data)
        right = isinstance(said.challenge, bytes) and hmac.compare_digest(said.challenge, challenge)
    except _GARBAGE:
        raise _refused("garbage", "what it shows is no client data") from None
    if said.type != "webauthn.get" or said.origin != f"https://{PRESENCE_RP}" or said.cross_origin:
        raise _refused("elsewhere", "the FIDO2 key answered somebody else")
    if not right:
        raise _refused("challenge", "the FIDO2 key answered another challenge")
    return hashlib.sha256(client_data).digest()


def _refused(what: str, text: str) -> TokenError:
    return TokenError(f"presence-{what}", text, "touch the key again")
