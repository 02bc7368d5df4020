"""A touch as evidence: what a real verifier takes, and each thing that nobody may pass for one."""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import CoseKey
from fido2.server import Fido2Server
from fido2.webauthn import (
    Aaguid,
    AttestedCredentialData,
    PublicKeyCredentialRpEntity,
    UserVerificationRequirement,
)

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import keys, presence
from dongled.tokens.fido.keys import PRESENCE_RP, UNLOCK_RP, Registered
from dongled.tokens.fido.presence import Answer, Touch
from dongled.tokens.fido.registered import MOST_PEOPLE, Registration, encode, parse, require_fit
from tokens.fido.conftest import Desk

pytestmark = pytest.mark.property("P4")

URN = "urn:uuid:6a1d5c3e-7c0b-4f5e-9d53-0c1f8b7c2a11"
CHALLENGE = bytes(range(32))
RP_HASH = hashlib.sha256(PRESENCE_RP.encode()).digest()
UP, UV, AT, ED = 0x01, 0x04, 0x40, 0x80


def cose(private: ec.EllipticCurvePrivateKey) -> dict[int, object]:
    numbers = private.public_key().public_numbers()
    return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}


KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = cbor2.dumps(cose(KEY), canonical=True)


def answered(
    flags: int = UP,
    *,
    rp: bytes = RP_HASH,
    tail: bytes = b"",
    client_data: bytes = b"",
    challenge: bytes = CHALLENGE,
    count: int = 7,
) -> Answer:
    """What a key that is asked anything would sign."""
    data = rp + struct.pack(">BI", flags, count) + tail
    digest = hashlib.sha256(client_data).digest() if client_data else challenge
    return Answer(b"id", data, client_data, KEY.sign(data + digest, ec.ECDSA(hashes.SHA256())))


def said(kind: str = "webauthn.get", rp: str = PRESENCE_RP, challenge: bytes = CHALLENGE) -> bytes:
    return bytes(keys.client_data(kind, rp, challenge))


def reason(given: Answer, challenge: bytes = CHALLENGE, public: bytes = PUBLIC) -> str:
    with pytest.raises(TokenError) as refused:
        presence.verify(public, challenge, given)
    return refused.value.reason


def registered(desk: Desk, *, verified: bool = False) -> Registered:
    return keys.register(PRESENCE_RP, "blue", desk.person("2468"), verified=verified)


@pytest.mark.parametrize("verified", [False, True])
def test_a_touch_holds_here_and_at_a_server_that_was_not_written_here(desk: Desk, verified: bool) -> None:
    made = registered(desk, verified=verified)
    given = presence.answer([made.credential], CHALLENGE, desk.person("2468"), verified=verified)
    touch = presence.verify(made.public_key, CHALLENGE, given)
    assert touch.verified is verified
    assert touch.count > made.count

    server = Fido2Server(PublicKeyCredentialRpEntity(name="dongled", id=PRESENCE_RP))
    public_key = CoseKey.parse(cbor2.loads(made.public_key))
    credential = AttestedCredentialData.create(Aaguid(bytes(16)), made.credential, public_key)
    wanted = UserVerificationRequirement.REQUIRED if verified else UserVerificationRequirement.DISCOURAGED
    _, state = server.authenticate_begin([credential], wanted, CHALLENGE)

    def at_server(answer: Answer) -> AttestedCredentialData:
        shown = {
            "rawId": answer.credential,
            "response": {
                "clientDataJSON": answer.client_data,
                "authenticatorData": answer.authenticator_data,
                "signature": answer.signature,
            },
        }
        return server.authenticate_complete(state, [credential], shown)

    assert at_server(given).credential_id == made.credential
    forged = replace(given, signature=answered().signature)
    with pytest.raises(ValueError, match="signature"):
        at_server(forged)
    assert reason(forged, public=made.public_key) == "presence-signature"


@pytest.mark.parametrize("client_data", [b"", said()])
def test_with_and_without_client_data(client_data: bytes) -> None:
    assert presence.verify(PUBLIC, CHALLENGE, answered(client_data=client_data)) == Touch(False, 7)
    assert presence.verify(PUBLIC, CHALLENGE, answered(UP | UV, client_data=client_data)).verified
    extended = answered(UP | ED, tail=cbor2.dumps({"hmac-secret": b"x"}), client_data=client_data)
    assert presence.verify(PUBLIC, CHALLENGE, extended) == Touch(False, 7)


@pytest.mark.property("P11")
@pytest.mark.parametrize(
    ("given", "why"),
    [
        (answered(0), "untouched"),
        (answered(UV), "untouched"),
        (answered(rp=hashlib.sha256(UNLOCK_RP.encode()).digest()), "elsewhere"),
        (answered(rp=hashlib.sha256(b"example.com").digest()), "elsewhere"),
        (answered(client_data=said(rp=UNLOCK_RP)), "elsewhere"),
        (answered(client_data=said("webauthn.create")), "elsewhere"),
        (answered(client_data=said().replace(b"false", b"true")), "elsewhere"),
        (answered(client_data=said(challenge=bytes(32))), "challenge"),
        (answered(client_data=said(challenge=CHALLENGE[:31])), "challenge"),
        (answered(client_data=said(challenge=b"")), "challenge"),
        (answered(challenge=bytes(32)), "signature"),
        (replace(answered(), signature=b"x"), "signature"),
        (replace(answered(), signature=answered(UV).signature), "signature"),
        (replace(answered(), client_data=said()), "signature"),
        (replace(answered(client_data=said()), client_data=b""), "signature"),
        (answered(client_data=b"{}"), "garbage"),
        (answered(client_data=b"[]"), "garbage"),
        (answered(client_data=b"\xff"), "garbage"),
        (answered(client_data=b"[" * 1000), "garbage"),
        (answered(client_data=said().replace(b'"challenge":"', b'"challenge":7,"c":"')), "challenge"),
        (answered(client_data=said() + b" " * 1024), "garbage"),
        (answered(tail=b"\0"), "garbage"),
        (answered(tail=bytes(1024)), "garbage"),
        (answered(UP | ED), "garbage"),
        (answered(UP | ED, tail=b"\xff"), "garbage"),
        (answered(UP | ED, tail=b"\xf5"), "garbage"),
        (answered(UP | ED, tail=b"\xa1\x61x\x45y"), "garbage"),
        (answered(tail=cbor2.dumps({})), "garbage"),
        (answered(UP | ED, tail=b"\xbf\xff"), "garbage"),
        (answered(UP | ED, tail=b"\x81" * 980), "garbage"),
        (answered(UP | ED, tail=cbor2.dumps({}) + b"\0"), "garbage"),
        (answered(UP | AT), "garbage"),
        (answered(UP | AT, tail=bytes(16) + b"\0\2id" + PUBLIC), "garbage"),
        (answered(UP | AT, tail=bytes(18)), "garbage"),
        (answered(UP | AT, tail=bytes(16) + b"\xff\xff"), "garbage"),
        (replace(answered(), authenticator_data=b""), "garbage"),
        (replace(answered(), authenticator_data=RP_HASH), "garbage"),
        (replace(answered(), authenticator_data=bytes(36)), "garbage"),
        (replace(answered(), signature=bytes(1025)), "garbage"),
    ],
)
def test_what_is_no_touch_for_this(given: Answer, why: str) -> None:
    assert reason(given) == f"presence-{why}"


def test_another_keys_touch(desk: Desk) -> None:
    made = registered(desk)
    given = presence.answer([made.credential], CHALLENGE, desk.person(), verified=False)
    assert reason(given) == "presence-signature"
    assert reason(given, bytes(32), made.public_key) == "presence-challenge"


def test_no_changed_byte_passes() -> None:
    for good in (answered(), answered(client_data=said())):
        for name in ("authenticator_data", "client_data", "signature"):
            value = getattr(good, name)
            for at in range(len(value)):
                changed = value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
                assert reason(replace(good, **{name: changed})).startswith("presence-")


def test_noise_is_refused_with_a_reason() -> None:
    for size in (*range(1, 64), 200, 900):
        noise = b"\xff" + secrets.token_bytes(size)
        assert reason(answered(UP | AT, tail=noise)) == "presence-garbage"
        assert reason(answered(UP | ED, tail=noise)) == "presence-garbage"


# --- the file


def person(**changes: object) -> Registration:
    return replace(Registration("blue", URN, b"id", PUBLIC, 7), **changes)  # type: ignore[arg-type]  # each its own


def test_what_is_written_is_read() -> None:
    people = [person(), person(credential=b"second", name="red key")]
    assert parse(encode(people).encode(), "x") == people


def bent(label: int, value: object) -> Registration:
    return person(public_key=cbor2.dumps({**cose(KEY), label: value}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"format": 2, "people": []}',
        b'{"format": 1, "people": {}, "more": 1}',
        b'{"format": 1, "people": [{"name": "blue"}]}',
        b'{"format": 1, "people": [7]}',
        encode([person(name="../x")]).encode(),
        encode([person(terminal="urn:uuid:x")]).encode(),
        encode([person(terminal="*")]).encode(),
        encode([person(credential=b"")]).encode(),
        encode([person(credential=bytes(1024))]).encode(),
        encode([person(count=-1)]).encode(),
        encode([person(count=True)]).encode(),
        encode([person(count=1 << 32)]).encode(),
        encode([person(), person()]).encode(),
        encode([person(credential=b"%d" % n) for n in range(MOST_PEOPLE + 1)]).encode(),
        encode([person(public_key=PUBLIC + b"\0")]).encode(),
        encode([person(public_key=b"")]).encode(),
        encode([person(public_key=b"\x81" * 4000)]).encode(),
        encode([person(public_key=cbor2.dumps([1]))]).encode(),
        encode([bent(3, -8)]).encode(),
        encode([bent(1, 1)]).encode(),
        encode([bent(-1, 2)]).encode(),
        encode([bent(-2, b"x")]).encode(),
        encode([bent(-2, bytes(32))]).encode(),
        encode([bent(-3, True)]).encode(),
        encode([bent(9, b"x")]).encode(),
    ],
)
def test_what_is_no_such_file(content: bytes) -> None:
    with pytest.raises(TokenError) as refused:
        parse(content, "people.json")
    assert refused.value.reason == "presence-file"
    assert "people.json" in str(refused.value)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: require_fit("", URN), "fido-name"),
        (lambda: require_fit("blue\n", URN), "fido-name"),
        (lambda: require_fit("blue", URN.upper()), "presence-terminal"),
        (lambda: require_fit("blue", URN + "\n"), "presence-terminal"),
    ],
)
def test_what_cannot_be_registered(make: Callable[[], None], why: str) -> None:
    with pytest.raises(TokenError) as refused:
        make()
    assert refused.value.reason == why
