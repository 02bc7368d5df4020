"""A key on a token as ``cryptography`` knows keys, so that its own builders sign with the token.

with signing_key(module, uri, pin, KeyRole.CA) as key:
    certificate = builder.sign(key, hashes.SHA256())
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.utils import Buffer

from dongled.tokens.api import KeyInfo, KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.pin import PinSource


class TokenPrivateKey(ec.EllipticCurvePrivateKey):
    """A P-256 private key that somebody else holds: signatures and shared secrets are asked for.

    ``sign`` is given a 32-byte SHA-256 digest and answers with 64 bytes, r and s; ``derive`` is given a
    65-byte uncompressed point and answers with the 32-byte x coordinate. A key without one of them
    refuses that use. Both may block; what they raise comes out unchanged.
    """

    def __init__(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        sign: Callable[[bytes], bytes] | None = None,
        derive: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._public_key = public_key
        self._sign = sign
        self._derive = derive

    @classmethod
    def from_point(
        cls,
        point: bytes,
        *,
        sign: Callable[[bytes], bytes] | None = None,
        derive: Callable[[bytes], bytes] | None = None,
    ) -> TokenPrivateKey:
        """The same from a public key as 65 bytes of uncompressed SEC1, such as ``KeyInfo.point``."""
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        return cls(public, sign=sign, derive=derive)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        if self._derive is None:
            raise TokenError("key-usage", "this key does not derive", "use the token's data key")
        point = peer_public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return self._derive(point)

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        if self._sign is None:
            raise TokenError("key-usage", "this key does not sign", "use the token's identity key")
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, utils.Prehashed):
            if algorithm.digest_size != hashes.SHA256.digest_size:
                raise TokenError("key-usage", "a token's key signs SHA-256 digests only")
            digest = bytes(data)
        elif isinstance(algorithm, hashes.SHA256):
            hasher = hashes.Hash(algorithm)
            hasher.update(data)
            digest = hasher.finalize()
        else:
            raise TokenError("key-usage", f"a token's key signs with SHA-256, not with {algorithm.name}")
        # X.509 wants ECDSA-Sig-Value in DER (RFC 3279, 2.2.3); PKCS#11 gives r and s as they are.
        raw = self._sign(digest)
        return utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def private_numbers(self) -> NoReturn:
        raise TokenError("key-usage", "a token's private key does not leave it")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise TokenError("key-usage", "a token's private key does not leave it")

    def __copy__(self) -> TokenPrivateKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenPrivateKey:
        return copy.copy(self)


class SigningKey(TokenPrivateKey):
    """A token's key, opened for signing. ``info`` says what it is, certificate included."""

    def __init__(self, info: KeyInfo, sign: Callable[[bytes], bytes]) -> None:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), info.point)
        super().__init__(public, sign=sign)
        self.info = info


@contextmanager
def signing_key(module: str, uri: str, pin: PinSource, role: KeyRole) -> Iterator[SigningKey]:
    """Open one key of a token for signing, from code that has no event loop.

    Inside an event loop call it in a thread (``asyncio.to_thread``). The key is checked as at every
    opening: generated on the token, sensitive, never extractable. Raises TokenError.
    """
    from dongled.tokens.session import open_session

    with asyncio.Runner() as runner:
        session = runner.run(open_session(module, uri, pin, frozenset({role})))
        try:
            yield SigningKey(session.keys[role], lambda digest: runner.run(session.sign(role, digest)))
        finally:
            runner.run(session.close())
