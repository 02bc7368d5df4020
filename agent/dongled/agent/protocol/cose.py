"""COSE_Sign1 (RFC 9052, section 4.2) in the one shape this protocol has, and its envelope."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from dongled.agent.protocol import cbor, limits
from dongled.agent.protocol.refusal import Refusal

# https://www.rfc-editor.org/rfc/rfc9053#section-2.1 and #section-2.2
ES256 = -7
EDDSA = -8
# https://www.rfc-editor.org/rfc/rfc9052#section-3.1 (alg 1, kid 4), https://www.rfc-editor.org/rfc/rfc9360
ALG, KID, X5CHAIN = 1, 4, 33

TOKEN_SIGNED = frozenset({"announce", "presence", "expel"})
KINDS = TOKEN_SIGNED | {"welcome", "request", "grant", "refuse", "rekey", "leave", "private"}


@dataclass(frozen=True, slots=True)
class Signed:
    """A message whose shape was checked and whose signature was not.

    ``chain`` holds DER certificates, leaf first, where the identity key signed; ``announcement`` the hash
    of the announcement that certified the epoch key, where that key signed.
    """

    kind: str
    chain: tuple[bytes, ...]
    announcement: bytes
    protected: bytes
    payload: bytes
    signature: bytes

    def structure(self, ctx: bytes) -> bytes:
        return structure(self.kind, self.protected, self.payload, ctx)

    def verify_es256(self, key: ec.EllipticCurvePublicKey, ctx: bytes) -> bytes:
        """Check the identity key's signature; returns the message's hash. Raises Refusal."""
        tbs = self.structure(ctx)
        r, s = int.from_bytes(self.signature[:32]), int.from_bytes(self.signature[32:])
        try:
            key.verify(encode_dss_signature(r, s), tbs, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Refusal("signature", f"{self.kind} is not signed by its certificate's key") from None
        return hashlib.sha256(tbs).digest()

    def verify_eddsa(self, key: ed25519.Ed25519PublicKey, ctx: bytes) -> bytes:
        """Check the epoch key's signature; returns the message's hash. Raises Refusal."""
        tbs = self.structure(ctx)
        try:
            key.verify(self.signature, tbs)
        except InvalidSignature:
            raise Refusal("signature", f"{self.kind} is not signed by its sender's epoch key") from None
        return hashlib.sha256(tbs).digest()


def token_header(chain: Sequence[bytes]) -> bytes:
    """Protected header of what the identity key signs. RFC 9360, section 2: one certificate stands alone."""
    return cbor.encode({ALG: ES256, X5CHAIN: chain[0] if len(chain) == 1 else list(chain)})


def epoch_header(announcement: bytes) -> bytes:
    """Protected header of what the epoch key signs."""
    return cbor.encode({ALG: EDDSA, KID: announcement})


def structure(kind: str, protected: bytes, payload: bytes, ctx: bytes) -> bytes:
    """Sig_structure, RFC 9052, section 4.4; its SHA-256 is the message's hash."""
    external_aad = f"{limits.VERSION} {kind}".encode() + ctx
    return cbor.encode(["Signature1", protected, external_aad, payload])


def envelope(kind: str, protected: bytes, payload: bytes, signature: bytes) -> bytes:
    """The bytes that go on the bus."""
    return cbor.encode([limits.VERSION, kind, [protected, {}, payload, signature]])


def parse(message: bytes) -> Signed:
    """Take an envelope apart, checking its shape alone. Raises Refusal."""
    match cbor.decode(message):
        case [
            str() as version,
            str() as kind,
            [bytes() as protected, dict() as unprotected, bytes() as payload, bytes() as signature],
        ]:
            pass
        case _:
            raise Refusal("malformed-envelope", "not a message of this protocol")
    if version != limits.VERSION:
        raise Refusal("version", version[:32])
    if kind not in KINDS:
        raise Refusal("unknown-type", kind[:32])
    if unprotected or len(signature) != 64:
        raise Refusal("malformed-envelope", "unprotected headers, or a signature that is not 64 bytes")
    chain, announcement = _header(kind, cbor.decode(protected))
    return Signed(kind, chain, announcement, protected, payload, signature)


def _header(kind: str, header: object) -> tuple[tuple[bytes, ...], bytes]:
    # The algorithm is fixed by who signs this type: nothing is negotiated, nothing is looked up.
    if not isinstance(header, dict):
        raise Refusal("malformed-envelope", "the protected header is not a map")
    wanted = {ALG, X5CHAIN} if kind in TOKEN_SIGNED else {ALG, KID}
    if set(header) != wanted or header[ALG] != (ES256 if kind in TOKEN_SIGNED else EDDSA):
        raise Refusal("algorithm", f"wrong headers or algorithm for {kind}")
    if kind not in TOKEN_SIGNED:
        if not isinstance(header[KID], bytes) or len(header[KID]) != limits.HASH:
            raise Refusal("malformed-envelope", "kid is not a hash")
        return (), header[KID]
    chain = [header[X5CHAIN]] if isinstance(header[X5CHAIN], bytes) else header[X5CHAIN]
    alone = isinstance(header[X5CHAIN], bytes)
    if not isinstance(chain, list) or not (1 if alone else 2) <= len(chain) <= limits.CHAIN:
        raise Refusal("malformed-envelope", "x5chain")
    if not all(isinstance(item, bytes) and 0 < len(item) <= limits.CERTIFICATE for item in chain):
        raise Refusal("malformed-envelope", "x5chain")
    return tuple(chain), b""
