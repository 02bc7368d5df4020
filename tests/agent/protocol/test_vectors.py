"""Today's code makes and opens the recorded bytes of tests/vectors/dongled."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent.protocol import cose, limits, sealing
from dongled.agent.protocol.messages import Keys, Refuse, Request
from dongled.agent.protocol.private_messages import SECRET, Accept, Ack, End, Invite, Letter, Opaque
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.sfu.bus import Reassembler, chunk
from dongled.media.api import StreamContext
from dongled.media.errors import FrameRejected
from dongled.media.frames import FrameOpener, FrameSealer
from vectors import make

MESSAGES = make.load("messages")
FRAMES = make.load("frames")
PARTIES = make.load("parties")
LETTERS: dict[str, Any] = {
    "invite": lambda content: Invite.parse(content, limits.BASE_KEY[5]),
    "accept": lambda content: Accept.parse(content, limits.BASE_KEY[5]),
    "end": End.parse,
    "ack": Ack.parse,
}
CASTS = make.Messages(lambda ctx, plaintext: None)


@pytest.mark.parametrize("name", ["parties", "messages", "links", "frames", "bus"])
def test_the_code_makes_these_bytes(name: str) -> None:
    assert make.build(make.recorded_seals())[name] == make.load(name)


def test_there_is_one_of_each_type() -> None:
    assert {message["type"] for message in MESSAGES} == cose.KINDS


def of(kind: str) -> dict[str, Any]:
    return next(message for message in MESSAGES if message["type"] == kind)


@pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: f"{vector['type']}-{vector['sender']}")
def test_each_message_is_its_sender_s_alone(vector: dict[str, Any]) -> None:
    signed = cose.parse(bytes.fromhex(vector["message"]))
    ctx = bytes.fromhex(vector["ctx_hash"])
    assert hashlib.sha256(bytes.fromhex(vector["ctx"])).digest() == ctx
    cast, other = CASTS.camera, CASTS.viewer
    if vector["sender"] == "viewer":
        cast, other = other, cast
    verify: Any
    keys: list[Any]
    if signed.kind in cose.TOKEN_SIGNED:
        verify, keys = signed.verify_es256, [c.identity.public_key() for c in (cast, other)]
    else:
        verify, keys = signed.verify_eddsa, [c.own.signing.public_key() for c in (cast, other)]
    assert verify(keys[0], ctx).hex() == vector["hash"]
    for key, context in ((keys[1], ctx), (keys[0], hashlib.sha256(ctx).digest())):
        with pytest.raises(Exception, match="signature"):
            verify(key, context)


@pytest.mark.parametrize(
    ("kind", "parse"),
    [
        ("request", Request.parse),
        ("refuse", Refuse.parse),
        ("grant", lambda plaintext: Keys.parse(plaintext, limits.BASE_KEY[5])),
    ],
)
def test_recorded_seals_open(kind: str, parse: Any) -> None:
    vector = of(kind)
    receiver = CASTS.camera if vector["receiver"] == "camera" else CASTS.viewer
    ctx = bytes.fromhex(vector["ctx_hash"])
    opened = receiver.own.sealing.open(bytes.fromhex(vector["sealed"]), ctx)
    if kind == "grant":
        point = sealing.inner_point(opened)
        shared = receiver.data.exchange(ec.ECDH(), sealing.p256_public(point))
        opened = sealing.open_inner(opened, receiver.own.announce.data, shared, ctx)
    assert opened.hex() == vector["plaintext"]
    assert parse(opened).encode() == opened


@pytest.mark.parametrize("vector", [m for m in MESSAGES if "letter" in m], ids=lambda m: m["letter"]["kind"])
def test_recorded_letters_open_for_whom_they_are_alone(vector: dict[str, Any]) -> None:
    letter = vector["letter"]
    camera, viewer = CASTS.camera, CASTS.viewer
    to, other = (camera, viewer) if letter["to"] == "camera" else (viewer, camera)
    ctx = bytes.fromhex(letter["seal_ctx_hash"])
    opaque = Opaque.parse(cose.parse(bytes.fromhex(vector["message"])).payload)
    opened = Letter.parse(to.own.sealing.open(opaque.sealed, ctx))
    with pytest.raises(Refusal):
        other.own.sealing.open(opaque.sealed, ctx)
    content, parse = opened.body, LETTERS[opened.kind]
    if opened.kind in SECRET:
        shared = to.data.exchange(ec.ECDH(), sealing.p256_public(sealing.inner_point(content)))
        content = sealing.open_inner(content, to.own.announce.data, shared, ctx)
    assert (opened.kind, content.hex()) == (letter["kind"], letter["content"])
    assert parse(content).encode() == content


@pytest.mark.parametrize("vector", FRAMES, ids=lambda v: f"suite {v['suite']} kid {v['kid']} ctr {v['ctr']}")
def test_recorded_frames_open_in_their_own_stream_alone(vector: dict[str, Any]) -> None:
    session = bytes.fromhex(PARTIES["camera"]["session"])
    wire, base_key = bytes.fromhex(vector["wire"]), bytes.fromhex(vector["base_key"])
    verify_key = CASTS.camera.own.announce.signing
    context = StreamContext(PARTIES["meeting"], session, vector["stream"], vector["codec"])
    opener = FrameOpener(context)
    opener.install(vector["kid"], base_key, verify_key, vector["suite"])
    opened = opener.open(wire)
    assert (opened.data.hex(), opened.kid, opened.ctr) == (vector["encoded"], vector["kid"], vector["ctr"])
    other = FrameOpener(StreamContext(PARTIES["meeting"], session, "screen", vector["codec"]))
    other.install(vector["kid"], base_key, verify_key, vector["suite"])
    with pytest.raises(FrameRejected) as refused:
        other.open(wire)
    assert refused.value.reason == "tag"


def test_a_sealer_makes_the_recorded_frames() -> None:
    session = bytes.fromhex(PARTIES["camera"]["session"])
    sealer = FrameSealer(StreamContext(PARTIES["meeting"], session, "camera", "vp8"))
    first = FRAMES[0]
    signing = bytes.fromhex(PARTIES["camera"]["private"]["signing"])
    sealer.use(first["kid"], bytes.fromhex(first["base_key"]), signing, first["suite"])
    for ctr in (0, 1):
        assert FRAMES[ctr]["ctr"] == ctr
        assert sealer.seal(bytes.fromhex(FRAMES[ctr]["encoded"])).hex() == FRAMES[ctr]["wire"]


def test_recorded_packets_carry_the_messages() -> None:
    for vector in make.load("bus"):
        message = make.seed(vector["label"], vector["size"])
        packets = chunk(message)
        assert [hashlib.sha256(p.encode()).hexdigest() for p in packets] == vector["text_sha256"]
        reassembler = Reassembler()
        assert [reassembler.receive("x", packet, 0.0) for packet in packets][-1] == message
