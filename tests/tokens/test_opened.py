"""What an opened token does: sign, derive, many at once, and what it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from dongled.tokens.api import KeyInfo, TokenKeys
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import OpenedToken
from dongled.tokens.private_key import TokenPrivateKey
from dongled.tokens.worker.curve import is_point
from tokens.bench import point_of

P = 2**256 - 2**224 + 2**192 + 2**96 - 1


def public(key: KeyInfo) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.point)


def verify(key: KeyInfo, signature: bytes, digest: bytes) -> None:
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )
    public(key).verify(der, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


async def test_is_what_the_daemon_asks_for(opened: OpenedToken) -> None:
    keys: TokenKeys = opened
    assert keys.uri.startswith("pkcs11:")
    assert keys.identity.cka_id != keys.data.cka_id
    assert (keys.operations.sign, keys.operations.derive) == (0, 0)
    await keys.sign(bytes(32))
    await keys.derive(point_of(ec.generate_private_key(ec.SECP256R1())), "peer")
    await keys.derive(point_of(ec.generate_private_key(ec.SECP256R1())), "peer")
    assert (keys.operations.sign, keys.operations.derive) == (1, 2)


async def test_signs_digests_only(opened: OpenedToken) -> None:
    for digest in (b"", bytes(31), bytes(33), bytes(64)):
        with pytest.raises(TokenError) as refusal:
            await opened.sign(digest)
        assert refusal.value.reason == "bad-digest"


async def test_derives_what_software_derives(opened: OpenedToken) -> None:
    # One secret in 256 begins with a zero octet, which must be kept: RFC 9180 hashes all 32.
    short = 0
    while short < 2:
        peer = ec.generate_private_key(ec.SECP256R1())
        expected = peer.exchange(ec.ECDH(), public(opened.data))
        if expected[0] != 0 and short == 0 and opened.operations.derive >= 20:
            continue
        short += expected[0] == 0
        assert await opened.derive(point_of(peer), "peer") == expected


def bad_points() -> dict[str, bytes]:
    good = point_of(ec.generate_private_key(ec.SECP256R1()))
    x, y = int.from_bytes(good[1:33], "big"), int.from_bytes(good[33:], "big")
    return {
        "empty": b"",
        "infinity": b"\x00",
        "compressed": bytes([2 + y % 2]) + good[1:33],
        "hybrid": bytes([6 + y % 2]) + good[1:],
        "short": good[:-1],
        "long": good + b"\x00",
        "wrapped in DER": b"\x04\x41" + good,
        "zero": b"\x04" + bytes(64),
        "off the curve": good[:-1] + bytes([good[-1] ^ 1]),
        "x beyond the field": b"\x04" + b"\xff" * 32 + good[33:],
        "y plus p": b"\x04" + good[1:33] + ((y + P) % 2**256).to_bytes(32, "big"),
        "another curve's": point_of(ec.generate_private_key(ec.SECP256K1())),
        "swapped": b"\x04" + y.to_bytes(32, "big") + x.to_bytes(32, "big"),
    }


@pytest.mark.fault("bad peer points")
async def test_refuses_what_is_no_point(opened: OpenedToken) -> None:
    worker = opened._data._broker.worker_pid
    for name, point in bad_points().items():
        with pytest.raises(TokenError) as refusal:
            await opened.derive(point, "peer")
        assert refusal.value.reason == "bad-point", name
    # The worker judged them and lives.
    assert opened._data._broker.worker_pid == worker
    assert opened.operations.derive == 0


def test_points_of_the_curve_are_told_from_others() -> None:
    for _ in range(50):
        point = point_of(ec.generate_private_key(ec.SECP256R1()))
        assert is_point(point)
        assert not is_point(b"\x04" + secrets.token_bytes(64))
        assert not is_point(list(point))
    # The same point with x beyond the field: only a small x leaves room for that in 32 octets.
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    small = [(x, pow(x**3 - 3 * x + b, (P + 1) // 4, P)) for x in range(20)]
    on_curve = [(x, y) for x, y in small if (y * y - (x**3 - 3 * x + b)) % P == 0]
    assert on_curve
    for x, y in on_curve:
        assert is_point(b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big"))
        assert not is_point(b"\x04" + (x + P).to_bytes(32, "big") + y.to_bytes(32, "big"))


async def test_many_at_once_each_get_their_own_answer(opened: OpenedToken) -> None:
    async def member(number: int) -> None:
        peer = ec.generate_private_key(ec.SECP256R1())
        expected = peer.exchange(ec.ECDH(), public(opened.data))
        for turn in range(30):
            digest = hashlib.sha256(b"%d %d" % (number, turn)).digest()
            verify(opened.identity, await opened.sign(digest), digest)
            assert await opened.derive(point_of(peer), str(number)) == expected

    await asyncio.gather(*(member(number) for number in range(16)))
    assert opened.operations.sign == opened.operations.derive == 16 * 30


async def test_who_gives_up_waiting_disturbs_nobody(opened: OpenedToken) -> None:
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(40)]
    tasks = [asyncio.create_task(opened.sign(digest)) for digest in digests]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks[::2])
    for digest, task in zip(digests[1::2], tasks[1::2], strict=True):
        verify(opened.identity, task.result(), digest)


async def test_closing_answers_whoever_waits(opened: OpenedToken) -> None:
    tasks = [asyncio.create_task(opened.sign(bytes(32))) for _ in range(10)]
    await asyncio.sleep(0)
    await opened.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, TokenError) and answer.reason == "token-closed" for answer in answers)
    with pytest.raises(TokenError):
        await opened.sign(bytes(32))
    await opened.close()


async def test_hpke_opens_through_the_token(opened: OpenedToken) -> None:
    """That cryptography's HPKE takes a private key that only looks like one is not documented: hold it."""
    suite = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    sealed = suite.encrypt(b"base key", public(opened.data), info=b"ctx")
    loop = asyncio.get_running_loop()
    asked = []

    def ask(point: bytes) -> bytes:
        asked.append(point)
        return asyncio.run_coroutine_threadsafe(opened.derive(point, "peer"), loop).result()

    asking = TokenPrivateKey.from_point(opened.data.point, derive=ask)
    assert await asyncio.to_thread(suite.decrypt, sealed, asking, b"ctx") == b"base key"
    # RFC 9180, 4.1: what is asked of the token is the encapsulated key, the first 65 octets.
    assert asked == [sealed[:65]]

    secret = await opened.derive(sealed[:65], "peer")
    answered = TokenPrivateKey.from_point(opened.data.point, derive=lambda point: secret)
    assert suite.decrypt(sealed, answered, info=b"ctx") == b"base key"
    # Whatever goes wrong in the exchange comes out as a failed decryption, the token's own error too: so
    # ask the token first, then open with the answer.
    wrong = TokenPrivateKey.from_point(opened.data.point, derive=lambda point: bytes(32))
    for key in (wrong, TokenPrivateKey.from_point(opened.data.point)):
        with pytest.raises(InvalidTag):
            suite.decrypt(sealed, key, info=b"ctx")
