"""A FIDO2 key in software: what it signs is real, and it says what a test wants it to say."""

from __future__ import annotations

import hashlib
import secrets
import struct

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent.protocol.api import Assertion
from dongled.tokens.fido import keys
from dongled.tokens.fido.keys import PRESENCE_RP
from dongled.tokens.fido.registered import Registration

UP, UV = 0x01, 0x04


class SoftKey:
    """``count`` is its signature counter: None where it has none."""

    def __init__(self, count: int | None = 0) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.credential = secrets.token_bytes(32)
        self.count = count

    def registered(self, name: str, terminal: str) -> Registration:
        numbers = self.private.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        return Registration(
            name, terminal, self.credential, cbor2.dumps(public, canonical=True), self.count or 0
        )

    def touch(
        self, challenge: bytes, flags: int = UP, *, rp: str = PRESENCE_RP, plain: bool = False
    ) -> Assertion:
        """``plain``: without client data."""
        if self.count is not None:
            self.count += 1
        data = hashlib.sha256(rp.encode()).digest() + struct.pack(">BI", flags, self.count or 0)
        said = b"" if plain else bytes(keys.client_data("webauthn.get", rp, challenge))
        digest = challenge if plain else hashlib.sha256(said).digest()
        signature = self.private.sign(data + digest, ec.ECDSA(hashes.SHA256()))
        return Assertion(self.credential, data, said, signature)
