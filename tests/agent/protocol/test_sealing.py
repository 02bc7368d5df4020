"""HPKE opened through the token: against RFC 9180's vectors, and against a second writing of it."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.protocol.bus import point_of
from dongled.agent.protocol import sealing
from dongled.agent.protocol.refusal import Refusal

CTX = hashlib.sha256(b"some context").digest()

# https://www.rfc-editor.org/rfc/rfc9180#appendix-A.3.1 (DHKEM(P-256), HKDF-SHA256, AES-128-GCM, base)
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
SK_R = 0xF3CE7FDAE57E1A310D87F1EBBDE6F328BE0A99CDBCADF4D6589CF29DE4B8FFD2
PK_R = bytes.fromhex(
    "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f62fb3d30"
    "ad6aa8f80e30f1d128aafd68a2ce72ea0"
)
ENC = bytes.fromhex(
    "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be"
    "863c403ce65c9bfcb9382657222d18c4"
)
SHARED_SECRET = bytes.fromhex("c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8")
KEY = bytes.fromhex("868c066ef58aae6dc589b6cfdd18f97e")
PLAINTEXT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
CIPHERTEXT = bytes.fromhex(
    "5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434"
)


def derive(key: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))


class SecondHpke:
    """RFC 9180, sections 4 and 5, written from the text: base mode, DHKEM(P-256), HKDF-SHA256, AES-GCM."""

    def __init__(self, aead: int, key_size: int) -> None:
        self.kem = b"KEM" + (0x10).to_bytes(2)
        self.suite = b"HPKE" + (0x10).to_bytes(2) + (1).to_bytes(2) + aead.to_bytes(2)
        self.key_size = key_size

    @staticmethod
    def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()

    @staticmethod
    def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
        labelled = size.to_bytes(2) + b"HPKE-v1" + suite + label + info
        return hmac.new(prk, labelled + b"\x01", hashlib.sha256).digest()[:size]

    def shared_secret(self, dh: bytes, enc: bytes, receiver: bytes) -> bytes:
        eae = self.extract(self.kem, b"", b"eae_prk", dh)
        return self.expand(self.kem, eae, b"shared_secret", enc + receiver, 32)

    def key_and_nonce(self, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
        psk_id = self.extract(self.suite, b"", b"psk_id_hash", b"")
        context = b"\x00" + psk_id + self.extract(self.suite, b"", b"info_hash", info)
        secret = self.extract(self.suite, shared_secret, b"secret", b"")
        key = self.expand(self.suite, secret, b"key", context, self.key_size)
        return key, self.expand(self.suite, secret, b"base_nonce", context, 12)


def test_the_second_writing_agrees_with_the_rfc() -> None:
    second, key = SecondHpke(1, 16), ec.derive_private_key(SK_R, ec.SECP256R1())
    shared = second.shared_secret(derive(key, ENC), ENC, PK_R)
    assert shared == SHARED_SECRET
    assert second.key_and_nonce(shared, INFO)[0] == KEY


def test_the_rfc_vector_opens_through_a_token_like_key() -> None:
    token = ec.derive_private_key(SK_R, ec.SECP256R1())
    assert point_of(token) == PK_R
    key = sealing.DerivedKey(sealing.p256_public(PK_R), ENC, derive(token, ENC))
    suite = hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
    opened = openssl.hpke._decrypt_with_aad(suite, ENC + CIPHERTEXT, key, INFO, b"Count-0")
    assert opened == PLAINTEXT


def test_the_inner_seal_opens_by_the_second_writing_and_the_other_way_round() -> None:
    token, ephemeral = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    second, info = SecondHpke(2, 32), b"dongled/1 p256 " + CTX
    ours = sealing.P256.encrypt(b"keys", token.public_key(), info)
    shared = second.shared_secret(derive(token, ours[:65]), ours[:65], point_of(token))
    key, nonce = second.key_and_nonce(shared, info)
    assert AESGCM(key).decrypt(nonce, ours[65:], b"") == b"keys"

    enc = point_of(ephemeral)
    shared = second.shared_secret(derive(ephemeral, point_of(token)), enc, point_of(token))
    key, nonce = second.key_and_nonce(shared, info)
    theirs = enc + AESGCM(key).encrypt(nonce, b"more keys", b"")
    assert sealing.inner_point(theirs) == enc
    assert sealing.open_inner(theirs, point_of(token), derive(token, enc), CTX) == b"more keys"


@pytest.mark.property("P9")
def test_both_keys_are_needed() -> None:
    epoch, token = sealing.XWingKey.generate(), ec.generate_private_key(ec.SECP256R1())
    sealed = sealing.seal_twice(
        sealing.xwing_public(epoch.public), token.public_key(), b"the frame keys", CTX
    )
    assert len(epoch.public) == 1216
    inner = epoch.open(sealed, CTX)
    assert b"the frame keys" not in inner
    shared = derive(token, sealing.inner_point(inner))
    assert sealing.open_inner(inner, point_of(token), shared, CTX) == b"the frame keys"
    other_epoch, other_token = sealing.XWingKey.generate(), ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Refusal, match="outer-seal"):
        other_epoch.open(sealed, CTX)
    with pytest.raises(Refusal, match="inner-seal"):
        sealing.open_inner(inner, point_of(token), derive(other_token, inner[:65]), CTX)
    with pytest.raises(Refusal, match="inner-seal"):
        sealing.open_inner(inner, point_of(token), secrets.token_bytes(7), CTX)


@pytest.mark.property("P4")
def test_neither_seal_opens_in_another_context() -> None:
    epoch, token = sealing.XWingKey.generate(), ec.generate_private_key(ec.SECP256R1())
    sealed = sealing.seal_twice(sealing.xwing_public(epoch.public), token.public_key(), b"k", CTX)
    other = hashlib.sha256(b"another context").digest()
    with pytest.raises(Refusal, match="outer-seal"):
        epoch.open(sealed, other)
    inner = epoch.open(sealed, CTX)
    with pytest.raises(Refusal, match="inner-seal"):
        sealing.open_inner(inner, point_of(token), derive(token, inner[:65]), other)


def test_the_derived_key_answers_for_one_point_alone() -> None:
    token, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    key = sealing.DerivedKey(token.public_key(), point_of(other), bytes(32))
    assert key.exchange(ec.ECDH(), other.public_key()) == bytes(32)
    with pytest.raises(ValueError, match="not asked for this point"):
        key.exchange(ec.ECDH(), token.public_key())
    with pytest.raises(NotImplementedError):
        key.sign(b"", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        b"\x02" + PK_R[1:33],
        PK_R[:-1] + bytes([PK_R[-1] ^ 1]),
    ],
)
def test_bad_points_never_reach_the_token(inner: bytes) -> None:
    with pytest.raises(Refusal, match="bad-point"):
        sealing.inner_point(inner)


@pytest.mark.parametrize("sealed", [b"", bytes(10), bytes(1136), bytes(5000)])
def test_zero_and_short_ciphertexts_are_refused(sealed: bytes) -> None:
    with pytest.raises(Refusal, match="outer-seal"):
        sealing.XWingKey.generate().open(sealed, CTX)


def test_no_private_key_in_a_repr() -> None:
    epoch = sealing.XWingKey.generate()
    assert "private" not in repr(epoch)
