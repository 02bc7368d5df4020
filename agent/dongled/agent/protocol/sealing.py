"""HPKE (RFC 9180) in its two uses here: X-Wing by the epoch, P-256 by the token, and one in the other.

Both run HKDF-SHA256 and AES-256-GCM, single-shot, base mode, empty aad; the ciphertext is enc || ct.
X-Wing is KEM 0x647a of draft-connolly-cfrg-xwing-kem.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

from dongled.agent.protocol import limits
from dongled.agent.protocol.refusal import Refusal

XWING = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
P256 = hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
MLKEM_PUBLIC = 1184


@dataclass(frozen=True, slots=True)
class XWingKey:
    """An epoch's sealing key. ``public`` is the ML-KEM-768 key and then the X25519 key, 1,216 bytes."""

    public: bytes
    private: hpke.MLKEM768X25519PrivateKey = field(repr=False)

    @staticmethod
    def generate() -> XWingKey:
        kem, dh = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
        public = kem.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw()
        return XWingKey(public, hpke.MLKEM768X25519PrivateKey(kem, dh))

    def open(self, sealed: bytes, ctx: bytes) -> bytes:
        """Open the outer seal. Raises Refusal."""
        try:
            return XWING.decrypt(sealed, self.private, _xwing_info(ctx))
        except (InvalidTag, ValueError):
            raise Refusal("outer-seal", "not sealed to this epoch, or for another context") from None


def xwing_public(raw: bytes) -> hpke.MLKEM768X25519PublicKey:
    """A peer's X-Wing key from its 1,216 bytes, to which something can be sealed. Raises Refusal."""
    try:
        kem = mlkem.MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC])
        dh = x25519.X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC:])
        # A point of small order fails with any key, and would fail when something is sealed to it.
        x25519.X25519PrivateKey.generate().exchange(dh)
        return hpke.MLKEM768X25519PublicKey(kem, dh)
    except ValueError:
        raise Refusal("bad-key", "not an X-Wing public key") from None


def p256_public(point: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 key from 65 bytes of uncompressed SEC1. Raises Refusal."""
    if len(point) != limits.POINT or point[0] != 4:
        raise Refusal("bad-point", "not an uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise Refusal("bad-point", "not on the curve P-256") from None


def seal(public: hpke.MLKEM768X25519PublicKey, plaintext: bytes, ctx: bytes) -> bytes:
    """Seal to an epoch alone."""
    return XWING.encrypt(plaintext, public, _xwing_info(ctx))


def seal_twice(
    outer: hpke.MLKEM768X25519PublicKey, inner: ec.EllipticCurvePublicKey, plaintext: bytes, ctx: bytes
) -> bytes:
    """Seal so that the epoch key *and* the token are needed."""
    return seal(outer, seal_to_token(inner, plaintext, ctx), ctx)


def seal_to_token(public: ec.EllipticCurvePublicKey, plaintext: bytes, ctx: bytes) -> bytes:
    """The inner seal alone: for what is sealed to the epoch together with more."""
    return P256.encrypt(plaintext, public, _p256_info(ctx))


def inner_point(inner: bytes) -> bytes:
    """The point that the token must derive with: HPKE's enc, checked to be on the curve. Raises Refusal."""
    point = inner[: limits.POINT]
    p256_public(point)
    return point


def open_inner(inner: bytes, own_point: bytes, shared: bytes, ctx: bytes) -> bytes:
    """Open the inner seal with what the token derived from ``inner_point(inner)``. Raises Refusal."""
    key = DerivedKey(p256_public(own_point), inner[: limits.POINT], shared)
    try:
        return P256.decrypt(inner, key, _p256_info(ctx))
    except (InvalidTag, ValueError):
        raise Refusal("inner-seal", "not sealed to this token, or for another context") from None


def _xwing_info(ctx: bytes) -> bytes:
    return b"dongled/1 xwing " + ctx


def _p256_info(ctx: bytes) -> bytes:
    return b"dongled/1 p256 " + ctx


class DerivedKey(ec.EllipticCurvePrivateKey):
    """A private key that can do one thing: repeat the ECDH that the token has done with one point."""

    def __init__(self, public: ec.EllipticCurvePublicKey, point: bytes, shared: bytes) -> None:
        self._public, self._point, self._shared = public, point, shared

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        point = peer_public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        if point != self._point:
            raise ValueError("the token was not asked for this point")
        return self._shared

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, *_: Any) -> NoReturn:
        raise NotImplementedError

    def private_numbers(self) -> NoReturn:
        raise NotImplementedError

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError

    def __copy__(self) -> DerivedKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DerivedKey:
        return self
