"""Links: one direction, one receiver, a hash chain from which each rekey's wrapping key comes.

docs/protocol.md, Links; HKDF is RFC 5869 with SHA-256.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from dongled.agent.protocol import limits
from dongled.agent.protocol.refusal import Refusal

# Every key here encrypts one plaintext, ever.
NONCE = bytes(12)


def extract(salt: bytes, key: bytes) -> bytes:
    """HKDF-Extract, RFC 5869, section 2.2."""
    return hmac.digest(salt, key, "sha256")


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand to 32 bytes, RFC 5869, section 2.3."""
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(key)


@dataclass(frozen=True, slots=True)
class Link:
    """The chain at position ``number``: the next message's. Immutable, so that a failed try costs nothing."""

    chain_key: bytes = field(repr=False)
    number: int = 0

    @staticmethod
    def begin(ctx: bytes, secret: bytes) -> Link:
        """``ctx`` is the grant's SHA-256(ctx), ``secret`` its 32 bytes L."""
        return Link(extract(ctx, secret))

    def next(self) -> tuple[bytes, Link]:
        """This position's message key, and the link moved on by one."""
        key = expand(self.chain_key, b"dongled/1 link msg" + self.number.to_bytes(8))
        return key, Link(expand(self.chain_key, b"dongled/1 link chain"), self.number + 1)

    def at(self, number: int) -> tuple[bytes, Link]:
        """The message key at ``number``, at most 64 ahead, and the link beyond it. Raises Refusal."""
        if number < self.number:
            raise Refusal("link-replayed", f"position {number} is past, {self.number} is next")
        if number - self.number > limits.SKIP:
            raise Refusal("link-skip", f"position {number} is more than {limits.SKIP} ahead")
        link = self
        while link.number < number:
            _, link = link.next()
        return link.next()


def wrap(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """AES-256-GCM with a key that is used once."""
    return AESGCM(key).encrypt(NONCE, plaintext, aad)


def unwrap(key: bytes, sealed: bytes, aad: bytes, reason: str) -> bytes:
    """Open ``wrap``. Raises Refusal with ``reason``."""
    try:
        return AESGCM(key).decrypt(NONCE, sealed, aad)
    except (InvalidTag, ValueError):
        raise Refusal(reason, "does not open") from None
