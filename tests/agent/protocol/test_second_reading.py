"""A second, small receiver written from docs/protocol.md alone opens what is recorded.

Nothing here imports the protocol's or the media's code: the standards' algorithms come from `cryptography`
and `hashlib`, everything else is the page. Were the page incomplete, this could not have been written.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = Path(__file__).parents[2] / "vectors/dongled"
PARTIES: Any = json.loads((VECTORS / "parties.json").read_text())
MESSAGES: Any = json.loads((VECTORS / "messages.json").read_text())
FRAMES: Any = json.loads((VECTORS / "frames.json").read_text())
PACKETS: Any = json.loads((VECTORS / "bus.json").read_text())


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def extract(salt: bytes, ikm: bytes, digest: str = "sha256") -> bytes:
    return hmac.digest(salt, ikm, digest)


def expand(prk: bytes, info: bytes, size: int = 32, digest: str = "sha256") -> bytes:
    return hmac.digest(prk, info + b"\x01", digest)[:size]


def sent(kind: str, sender: str) -> bytes:
    return bytes.fromhex(next(m["message"] for m in MESSAGES if (m["type"], m["sender"]) == (kind, sender)))


# --- RFC 9180, base mode, HKDF-SHA256 and AES-256-GCM ---------------------------------------------


def labelled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return extract(salt or bytes(32), b"HPKE-v1" + suite + label + ikm)


def labelled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(prk, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)


def hpke_open(kem: int, shared_secret: bytes, info: bytes, ct: bytes) -> bytes:
    suite = b"HPKE" + kem.to_bytes(2, "big") + b"\x00\x01" + b"\x00\x02"
    psk_id = labelled_extract(suite, b"", b"psk_id_hash", b"")
    context = b"\x00" + psk_id + labelled_extract(suite, b"", b"info_hash", info)
    secret = labelled_extract(suite, shared_secret, b"secret", b"")
    key = labelled_expand(suite, secret, b"key", context, 32)
    nonce = labelled_expand(suite, secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, ct, b"")


class Receiver:
    """A terminal from its private keys and its own announcement."""

    def __init__(self, name: str) -> None:
        private = {key: bytes.fromhex(value) for key, value in PARTIES[name]["private"].items()}
        self.kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(private["ml_kem_seed"])
        self.dh = x25519.X25519PrivateKey.from_private_bytes(private["x25519"])
        self.data = ec.derive_private_key(int.from_bytes(private["data"], "big"), ec.SECP256R1())
        self.announced = Announced(sent("announce", name))

    def open_xwing(self, sealed: bytes, ctx: bytes) -> bytes:
        # draft-connolly-cfrg-xwing-kem, section 5.4
        ct_m, ct_x, ct = sealed[:1088], sealed[1088:1120], sealed[1120:]
        ss_x = self.dh.exchange(x25519.X25519PublicKey.from_public_bytes(ct_x))
        pk_x = self.dh.public_key().public_bytes_raw()
        ss = hashlib.sha3_256(self.kem.decapsulate(ct_m) + ss_x + ct_x + pk_x + rb"\.//^" + b"\\").digest()
        return hpke_open(0x647A, ss, b"dongled/1 xwing " + sha256(ctx), ct)

    def open_p256(self, sealed: bytes, ctx: bytes) -> bytes:
        # RFC 9180, section 4.1
        enc, ct, kem = sealed[:65], sealed[65:], b"KEM\x00\x10"
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc)
        eae = labelled_extract(kem, b"", b"eae_prk", self.data.exchange(ec.ECDH(), peer))
        ss = labelled_expand(kem, eae, b"shared_secret", enc + self.announced.payload["data"], 32)
        return hpke_open(0x0010, ss, b"dongled/1 p256 " + sha256(ctx), ct)


# --- envelopes, contexts, signatures ---------------------------------------------------------------


class Message:
    def __init__(self, message: bytes) -> None:
        version, self.kind, (self.protected, unprotected, self.raw, self.signature) = cbor2.loads(message)
        assert (version, unprotected) == ("dongled/1", {})
        self.header = cbor2.loads(self.protected)
        self.payload: Any = cbor2.loads(self.raw)

    def structure(self, ctx: bytes) -> bytes:
        aad = b"dongled/1 " + self.kind.encode() + sha256(ctx)
        return cbor2.dumps(["Signature1", self.protected, aad, self.raw])

    def verify_by_token(self, ctx: bytes) -> bytes:
        """By the identity key of the certificate that stands first in it; returns the leaf."""
        assert self.header[1] == -7
        chain = self.header[33]
        leaf = chain if isinstance(chain, bytes) else chain[0]
        key = x509.load_der_x509_certificate(leaf).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        r, s = (int.from_bytes(part, "big") for part in (self.signature[:32], self.signature[32:]))
        key.verify(encode_dss_signature(r, s), self.structure(ctx), ec.ECDSA(hashes.SHA256()))
        return leaf

    def verify(self, sender: Announced, ctx: bytes) -> bytes:
        """By the sender's epoch key; returns the message's hash."""
        assert self.header == {1: -8, 4: sender.hash}
        key = ed25519.Ed25519PublicKey.from_public_bytes(sender.payload["signing"])
        key.verify(self.signature, self.structure(ctx))
        return sha256(self.structure(ctx))


class Announced(Message):
    """An announcement that its certificate's key signed."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        chain = self.header[33]
        leaf = chain if isinstance(chain, bytes) else chain[0]
        self.leaf = sha256(leaf)
        assert self.payload["leaf"] == self.leaf
        ctx = context("announce", self.party(b""), [], b"", self.payload)
        self.verify_by_token(ctx)
        self.hash = sha256(self.structure(ctx))

    def party(self, announcement: bytes) -> list[Any]:
        return [self.leaf, self.payload["session"], self.payload["epoch"], announcement]

    @property
    def whole(self) -> list[Any]:
        return self.party(self.hash)


def context(kind: str, sender: list[Any], receiver: list[Any], request: bytes, announced: Any) -> bytes:
    ends = [announced["meeting"], sender, receiver, request, announced["suites"]]
    return cbor2.dumps(["dongled/1", kind, *ends])


def commitment(base_key: bytes, kid: int, announced: Any) -> bytes:
    info = u64(kid) + announced["session"] + announced["signing"]
    return expand(extract(b"dongled/1 commit", base_key), info)


class Granted:
    """What the viewer gets out of the recorded grant: base keys by stream and KID, and the link."""

    def __init__(self, viewer: Receiver, camera: Announced) -> None:
        asked, answer = Message(sent("request", "viewer")), Message(sent("grant", "camera"))
        me = viewer.announced
        asked_ctx = context("request", me.whole, camera.whole, b"", me.payload)
        request = asked.verify(me, asked_ctx)
        self.ctx = context("grant", camera.whole, me.whole, request, camera.payload)
        answer.verify(camera, self.ctx)
        assert answer.payload["to"] == me.hash
        inner = viewer.open_xwing(answer.payload["sealed"], self.ctx)
        self.opened: Any = cbor2.loads(viewer.open_p256(inner, self.ctx))
        self.keys = {}
        for stream, kid, commit, base_key, signing in self.opened["keys"]:
            assert signing == camera.payload["signing"]
            assert commit == commitment(base_key, kid, camera.payload)
            self.keys[stream, kid] = base_key

    def message_key(self, number: int) -> bytes:
        chain = extract(sha256(self.ctx), self.opened["link"])
        for _ in range(number):
            chain = expand(chain, b"dongled/1 link chain")
        return expand(chain, b"dongled/1 link msg" + u64(number))


def rekeyed(granted: Granted, viewer: Announced, camera: Announced) -> dict[tuple[str, int], bytes]:
    message = Message(sent("rekey", "camera"))
    ctx = context("rekey", camera.whole, [], b"", camera.payload)
    message.verify(camera, ctx)
    seq, session = message.payload["key_seq"], viewer.payload["session"]
    number, wrapped = next((n, w) for holder, n, w in message.payload["links"] if holder == session)
    aad = b"dongled/1 link " + sha256(ctx) + u64(seq) + session
    keks = cbor2.loads(AESGCM(granted.message_key(number)).decrypt(bytes(12), wrapped, aad))
    keys = {}
    for (stream, kid, commit, sealed), kek in zip(message.payload["keys"], keks, strict=True):
        if kek is not None:
            aad = b"dongled/1 key " + sha256(ctx) + u64(seq) + u64(kid)
            keys[stream, kid] = AESGCM(kek).decrypt(bytes(12), sealed, aad)
            assert commit == commitment(keys[stream, kid], kid, camera.payload)
    return keys


@pytest.fixture(scope="module")
def viewer() -> Receiver:
    return Receiver("viewer")


@pytest.fixture(scope="module")
def camera() -> Announced:
    return Announced(sent("announce", "camera"))


def test_a_grant_opens_by_the_page_alone(viewer: Receiver, camera: Announced) -> None:
    granted = Granted(viewer, camera)
    assert {stream for stream, _ in granted.keys} == {s for s, _ in camera.payload["streams"]}
    assert granted.opened["key_seq"] == 1


def test_a_rekey_opens_by_the_page_alone(viewer: Receiver, camera: Announced) -> None:
    granted = Granted(viewer, camera)
    keys = rekeyed(granted, viewer.announced, camera)
    assert [(stream, kid) for stream, kid in keys] == [("camera", 3)]
    assert not set(keys.values()) & set(granted.keys.values())


def test_a_request_and_a_refuse_open_by_the_page_alone(camera: Announced) -> None:
    viewer, publisher = Receiver("viewer"), Receiver("camera")
    asked = Message(sent("request", "viewer"))
    ctx = context("request", viewer.announced.whole, camera.whole, b"", viewer.announced.payload)
    inner = cbor2.loads(publisher.open_xwing(asked.payload["sealed"], ctx))
    assert inner["echo"] == Message(sent("welcome", "camera")).payload["nonce"]
    refuse = Message(sent("refuse", "camera"))
    digest = asked.verify(viewer.announced, ctx)
    ctx = context("refuse", camera.whole, viewer.announced.whole, digest, camera.payload)
    refuse.verify(camera, ctx)
    assert cbor2.loads(viewer.open_xwing(refuse.payload["sealed"], ctx)) == {
        "nonce": inner["nonce"],
        "reason": "policy",
    }


def test_evidence_by_the_page_alone(camera: Announced) -> None:
    publisher, me = Receiver("camera"), Announced(sent("announce", "viewer"))
    ctx = context("request", me.whole, camera.whole, b"", me.payload)
    inner = cbor2.loads(publisher.open_xwing(Message(sent("request", "viewer")).payload["sealed"], ctx))
    assert set(inner["evidence"]) == {1, 2, 3}
    _credential, authenticator_data, client_data, _signature = inner["evidence"][2]
    assert (len(authenticator_data), client_data) == (37, b"")
    for attested in inner["evidence"][3]:
        x509.load_der_x509_certificate(attested)
    challenge = next(m["fido_challenge"] for m in MESSAGES if m["type"] == "request")
    assert sha256(b"dongled/1 fido" + sha256(ctx) + inner["echo"]).hex() == challenge


def test_a_beacon_by_the_page_alone(camera: Announced, viewer: Receiver) -> None:
    beacon = Message(sent("presence", "camera"))
    ctx = context("presence", camera.whole, [], b"", camera.payload)
    assert sha256(beacon.verify_by_token(ctx)) == beacon.payload["leaf"] == camera.leaf
    here = sorted([a.payload["session"], a.leaf] for a in (camera, viewer.announced))
    assert beacon.payload["roster"] == sha256(cbor2.dumps(here))


def test_a_welcome_and_a_leave_by_the_page_alone(camera: Announced, viewer: Receiver) -> None:
    me = viewer.announced
    welcome = Message(sent("welcome", "camera"))
    welcome.verify(camera, context("welcome", camera.whole, me.whole, b"", camera.payload))
    assert welcome.payload["to"] == me.hash
    assert len(welcome.payload["nonce"]) == 16
    leave = Message(sent("leave", "camera"))
    leave.verify(camera, context("leave", camera.whole, [], b"", camera.payload))
    assert leave.payload == {"counter": Message(sent("presence", "camera")).payload["counter"]}


def test_an_expulsion_by_the_page_alone(camera: Announced, viewer: Receiver) -> None:
    order = Message(sent("expel", "camera"))
    leaf = order.verify_by_token(context("expel", camera.whole, [], b"", camera.payload))
    assert sha256(leaf) == order.payload["leaf"] == camera.leaf
    assert (order.payload["session"], order.payload["epoch"]) == (camera.payload["session"], 1)
    them = viewer.announced
    assert order.payload["target"] == [them.payload["terminal"], them.payload["session"], them.leaf]


def test_the_next_round_by_the_page_alone(camera: Announced) -> None:
    announced = [bytes.fromhex(m["message"]) for m in MESSAGES if m["type"] == "announce"]
    second = Announced(announced[-1])
    assert (second.payload["epoch"], second.payload["previous"]) == (2, camera.hash)
    assert (camera.payload["epoch"], camera.payload["previous"]) == (1, b"")
    same = ("meeting", "terminal", "leaf", "session", "data", "data_chain")
    assert [second.payload[name] for name in same] == [camera.payload[name] for name in same]
    fresh = ("xwing", "signing")
    assert not any(second.payload[name] == camera.payload[name] for name in fresh)
    assert len(second.payload["xwing"]) == 1184 + 32


@pytest.mark.parametrize("vector", PACKETS, ids=lambda v: v["label"])
def test_packets_by_the_page_alone(vector: Any) -> None:
    seed = b"dongled/1 test vectors " + vector["label"].encode()
    message = hashlib.shake_256(seed).digest(vector["size"])
    parts = [message[at : at + 15_360] for at in range(0, len(message), 15_360)]
    packets = [b"\x01" + message]
    if len(parts) > 1:
        heads = [b"\x02" + sha256(message)[:16] + bytes([index, len(parts)]) for index in range(len(parts))]
        packets = [head + part for head, part in zip(heads, parts, strict=True)]
    assert [packet[:19].hex() for packet in packets] == vector["heads"]
    assert [sha256(base64.b64encode(p)).hex() for p in packets] == vector["text_sha256"]


def read_letter(message: Message, to: Receiver, sender: Announced) -> tuple[str, Any, bytes]:
    """Kind, letter's fields and content of a letter to ``to``."""
    assert list(message.payload) == ["sealed"]
    message.verify(sender, context("private", sender.whole, [], b"", sender.payload))
    ctx = context("private", sender.whole, to.announced.whole, b"", sender.payload)
    plaintext = to.open_xwing(message.payload["sealed"], ctx)
    size = int.from_bytes(plaintext[:2], "big")
    letter: Any = cbor2.loads(plaintext[2 : 2 + size])
    assert plaintext[2 + size :] == bytes(1_280 - 2 - size)
    secret = letter["kind"] in ("invite", "accept")
    content = to.open_p256(letter["body"], ctx) if secret else letter["body"]
    return letter["kind"], letter, content


def test_a_private_session_by_the_page_alone(camera: Announced) -> None:
    viewer, publisher = Receiver("viewer"), Receiver("camera")
    letters = [Message(bytes.fromhex(m["message"])) for m in MESSAGES if m["type"] == "private"]
    assert len({len(letter.raw) for letter in letters}) == 1
    invite, accept, ack, end = letters
    kind, _, offered = read_letter(invite, viewer, camera)
    invited = cbor2.loads(offered)
    assert (kind, invited["lifetime"]) == ("invite", 120)
    kind, asked, content = read_letter(accept, publisher, viewer.announced)
    accepted = cbor2.loads(content)
    assert kind == "accept"
    assert (accepted["id"], accepted["invite"]) == (invited["id"], sha256(offered))
    for streams, owner in ((invited["streams"], camera), (accepted["streams"], viewer.announced)):
        for _stream, _name, codec, kid, commit, base_key in streams:
            assert codec == "vp8"
            assert commit == commitment(base_key, kid, owner.payload)
    assert [name for _, name, *_ in invited["streams"] + accepted["streams"]] == ["screen-2", "badge"]
    kind, _, content = read_letter(ack, viewer, camera)
    assert (kind, cbor2.loads(content)) == ("ack", {"of": asked["counter"]})
    kind, _, content = read_letter(end, publisher, viewer.announced)
    assert (kind, cbor2.loads(content)) == ("end", {"id": invited["id"], "reason": "ended"})
    # To anybody else it is bytes.
    with pytest.raises(InvalidTag):
        read_letter(invite, publisher, camera)


@pytest.mark.property("P4")
def test_nothing_opens_for_another_request_or_epoch(viewer: Receiver, camera: Announced) -> None:
    answer, me = Message(sent("grant", "camera")), viewer.announced
    request = Message(sent("request", "viewer"))
    digest = request.verify(me, context("request", me.whole, camera.whole, b"", me.payload))
    other_epoch = [*me.whole[:2], 2, me.hash]
    for receiver, asked in ((me.whole, sha256(b"other")), (other_epoch, digest), (me.whole, b"")):
        ctx = context("grant", camera.whole, receiver, asked, camera.payload)
        with pytest.raises(InvalidSignature):
            answer.verify(camera, ctx)
        with pytest.raises(InvalidTag):
            viewer.open_xwing(answer.payload["sealed"], ctx)


# --- frames ----------------------------------------------------------------------------------------


def open_frame(wire: bytes, vector: Any, camera: Announced) -> bytes:
    clear = wire[:1] if wire[0] & 1 else wire[:10]
    sealed, at = wire[len(clear) :], 1
    # RFC 9605, section 4.3
    fields = []
    for nibble in (sealed[0] >> 4, sealed[0] & 15):
        size = (nibble & 7) + 1 if nibble & 8 else 0
        fields.append(int.from_bytes(sealed[at : at + size], "big") if size else nibble)
        at += size
    kid, ctr = fields
    digest, key_size = {4: ("sha256", 16), 5: ("sha512", 32)}[vector["suite"]]
    # RFC 9605, section 4.4.2
    secret = extract(b"", bytes.fromhex(vector["base_key"]), digest)
    about = u64(kid) + vector["suite"].to_bytes(2, "big")
    key = expand(secret, b"SFrame 1.0 Secret key " + about, key_size, digest)
    salt = expand(secret, b"SFrame 1.0 Secret salt " + about, 12, digest)
    nonce = (int.from_bytes(salt, "big") ^ ctr).to_bytes(12, "big")
    ours = camera.payload
    metadata = cbor2.dumps([1, ours["meeting"], ours["session"], vector["stream"], vector["codec"], clear])
    plaintext = AESGCM(key).decrypt(nonce, sealed[at:], sealed[:at] + metadata)
    rest, signature = plaintext[:-64], plaintext[-64:]
    statement = b"dongled/1 frame" + sha256(metadata) + u64(kid) + u64(ctr) + sha256(rest)
    ed25519.Ed25519PublicKey.from_public_bytes(ours["signing"]).verify(signature, statement)
    assert (kid, ctr) == (vector["kid"], vector["ctr"])
    return clear + rest


@pytest.mark.parametrize("vector", FRAMES, ids=lambda v: f"suite {v['suite']} kid {v['kid']} ctr {v['ctr']}")
def test_a_frame_opens_by_the_page_alone(vector: Any, camera: Announced) -> None:
    assert open_frame(bytes.fromhex(vector["wire"]), vector, camera).hex() == vector["encoded"]


def test_a_feed_is_named_as_the_page_says(camera: Announced) -> None:
    assert PARTIES["display"] == f"dongled/1 {camera.payload['session'].hex()} camera"
