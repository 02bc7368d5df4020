"""Makes tests/vectors/dongled/*.json: every byte string of docs/protocol.md, from fixed seeds.

``python tests/vectors/make.py`` (with ``agent``, ``media`` and ``tests`` on the path, as the tests have them)
writes them anew. All is deterministic but the ephemeral keys of HPKE, which `cryptography` chooses: a seal
that is recorded stays as it is while it is still the seal of the same plaintext for the same context.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from dongled.agent.meetings.feeds import encrypted_display
from dongled.agent.protocol import cbor, cose, evidence, limits, private_messages, sealing
from dongled.agent.protocol.api import Assertion, Evidence, Stream
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.letters import digest_of
from dongled.agent.protocol.links import Link, wrap
from dongled.agent.protocol.messages import (
    Announce,
    Expel,
    Grant,
    GrantedKey,
    Keys,
    Leave,
    NewKey,
    Position,
    Presence,
    Refuse,
    Rekey,
    Request,
    Sealed,
    Welcome,
    Wrapped,
)
from dongled.agent.protocol.own import OwnEpoch
from dongled.agent.protocol.private_messages import Accept, Ack, End, Invite, Letter, Opaque, PrivateKey
from dongled.agent.protocol.publisher import key_aad, link_aad
from dongled.agent.sfu import bus
from dongled.media import sframe
from dongled.media.api import StreamContext
from dongled.media.keyring import commit_base_key

FOLDER = Path(__file__).with_name("dongled")
MEETING = "ward 3"
# The order of P-256's group (SP 800-186, section 3.2.1.3).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Vector = dict[str, Any]
# (H(ctx), plaintext) -> the recorded seal, or None where one has to be made
Recorded = Callable[[str, str], str | None]


def seed(label: str, size: int = 32) -> bytes:
    """Bytes that everybody can make again: SHAKE-256 of the label."""
    return hashlib.shake_256(b"dongled/1 test vectors " + label.encode()).digest(size)


def token_key(label: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(seed(label, 48)) % (P256_ORDER - 1) + 1, ec.SECP256R1())


def point_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def certificate(name: str, use: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate that no policy would take: only its key and its bytes matter here."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {use}")])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), int.from_bytes(seed(name + use, 8)))
    made = builder.not_valid_before(datetime(2027, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2028, 1, 1, tzinfo=UTC)
    )
    return made.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Cast:
    """A terminal with all its keys."""

    name: str
    identity: ec.EllipticCurvePrivateKey
    data: ec.EllipticCurvePrivateKey
    own: OwnEpoch

    @staticmethod
    def make(name: str, streams: Sequence[Stream]) -> Cast:
        identity, data = token_key(f"{name} identity"), token_key(f"{name} data")
        signing = Ed25519PrivateKey.from_private_bytes(seed(f"{name} signing"))
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed(f"{name} ml-kem", 64))
        dh = x25519.X25519PrivateKey.from_private_bytes(seed(f"{name} x25519"))
        public = kem.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw()
        leaf_bytes = certificate(name, "identity", identity)
        leaf, session = hashlib.sha256(leaf_bytes).digest(), seed(f"{name} session", limits.SESSION)
        announce = Announce(
            meeting=MEETING,
            terminal=f"urn:uuid:00000000-0000-4000-8000-{seed(name, 6).hex()}",
            leaf=leaf,
            session=session,
            epoch=1,
            previous=b"",
            data=point_of(data),
            data_chain=(certificate(name, "data", data),),
            xwing=public,
            signing=signing.public_key().public_bytes_raw(),
            streams=tuple(streams),
            suites=(5,),
            lifetime=0,
        )
        protected = cose.token_header([leaf_bytes])
        party = Party(leaf, session, 1)
        ctx = context("announce", MEETING, party, (5,))
        digest = hashlib.sha256(cose.structure("announce", protected, announce.encode(), ctx)).digest()
        own = OwnEpoch(
            announce,
            (leaf_bytes,),
            protected,
            digest,
            Party(leaf, session, 1, digest),
            signing,
            sealing.XWingKey(public, MLKEM768X25519PrivateKey(kem, dh)),
        )
        return Cast(name, identity, data, own)

    def token_sign(self, digest: bytes) -> bytes:
        algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
        r, s = decode_dss_signature(self.identity.sign(digest, algorithm))
        return r.to_bytes(32) + s.to_bytes(32)

    def vector(self) -> Vector:
        scalars = {"identity": self.identity, "data": self.data}
        return {
            "terminal": self.own.announce.terminal,
            "private": {
                **{key: scalars[key].private_numbers().private_value.to_bytes(32).hex() for key in scalars},
                "signing": seed(f"{self.name} signing").hex(),
                "ml_kem_seed": seed(f"{self.name} ml-kem", 64).hex(),
                "x25519": seed(f"{self.name} x25519").hex(),
            },
            "certificate": self.own.chain[0].hex(),
            "session": self.own.party.session.hex(),
            "leaf": self.own.party.leaf.hex(),
            "announcement": self.own.digest.hex(),
        }


class Messages:
    """One message of each type between a camera and a viewer, in the order of a real meeting."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.camera = Cast.make("camera", [Stream("camera", "vp8"), Stream("screen", "vp8")])
        self.viewer = Cast.make("viewer", [])
        self.vectors: list[Vector] = []
        self.links: Vector = {}

    def make(self) -> None:
        camera, viewer = self.camera, self.viewer
        for cast in (camera, viewer):
            self._message("announce", cast, cast.own.announce.encode())
        to_viewer = Welcome(viewer.own.digest, seed("welcome nonce", 16))
        self._message("welcome", camera, to_viewer.encode(), viewer)
        self._message("presence", camera, self._presence().encode())
        nonce = seed("request nonce", 16)
        inner = Request(("camera", "screen"), to_viewer.nonce, nonce, 1, 0, self._evidence()).encode()
        request = self._sealed("request", viewer, camera, inner)
        ctx = viewer.own.context("request", camera.own.party)
        self.vectors[-1]["fido_challenge"] = evidence.challenge(ctx, to_viewer.nonce).hex()
        self._refuse(nonce, request)
        self._grant(nonce, request)
        self._rekey()
        self._message("leave", camera, Leave(7).encode())
        ours, theirs = camera.own, viewer.own
        target = (theirs.announce.terminal, theirs.party.session, theirs.party.leaf)
        order = Expel(ours.party.leaf, ours.party.session, 1, 1, *target, "not invited", 43_200)
        self._message("expel", camera, order.encode())
        self._private()
        self._next_round()

    def _next_round(self) -> None:
        """The camera's second announcement: fresh epoch keys, and the hash of the first."""
        own = self.camera.own
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed("camera ml-kem 2", 64)).public_key()
        dh = x25519.X25519PrivateKey.from_private_bytes(seed("camera x25519 2")).public_key()
        signing = Ed25519PrivateKey.from_private_bytes(seed("camera signing 2")).public_key()
        second = replace(
            own.announce,
            epoch=2,
            previous=own.digest,
            xwing=kem.public_bytes_raw() + dh.public_bytes_raw(),
            signing=signing.public_bytes_raw(),
        )
        party = Party(own.party.leaf, own.party.session, 2)
        self._message("announce", replace(self.camera, own=replace(own, party=party)), second.encode())

    def _private(self) -> None:
        """The camera invites the viewer, which accepts, shows its badge in return, and ends it later."""
        camera, viewer, number = self.camera, self.viewer, seed("private session", 16)
        invite = Invite(number, (self._private_key(camera, "screen-2", 5),), 120).encode()
        self._letter("invite", camera, viewer, invite, 1)
        accept = Accept(number, digest_of(invite), (self._private_key(viewer, "badge", 1),)).encode()
        self._letter("accept", viewer, camera, accept, 1)
        self._letter("ack", camera, viewer, Ack(1).encode(), 2)
        self._letter("end", viewer, camera, End(number, "ended").encode(), 2)

    def _private_key(self, cast: Cast, name: str, kid: int) -> PrivateKey:
        base_key, own = seed(f"private base key {name}", 64), cast.own
        commit = commit_base_key(base_key, kid, own.party.session, own.announce.signing)
        return PrivateKey(seed(f"private stream {name}", 16).hex(), name, "vp8", kid, commit, base_key)

    def _letter(self, kind: str, sender: Cast, receiver: Cast, content: bytes, counter: int) -> None:
        ctx = sender.own.context("private", receiver.own.party)
        body = content
        if kind in private_messages.SECRET:
            public = sealing.p256_public(receiver.own.announce.data)
            sealed = self._recorded(ctx.hex(), content.hex())
            body = bytes.fromhex(sealed) if sealed else sealing.seal_to_token(public, content, ctx)
        plaintext = Letter(kind, seed(f"{receiver.name} beacon nonce", 16), counter, body).encode()
        sealed = self._recorded(ctx.hex(), plaintext.hex())
        epoch = sealing.xwing_public(receiver.own.announce.xwing)
        made = bytes.fromhex(sealed) if sealed else sealing.seal(epoch, plaintext, ctx)
        self._message("private", sender, Opaque(made).encode(), plaintext=plaintext)
        self.vectors[-1]["letter"] = {
            "kind": kind,
            "to": receiver.name,
            "seal_ctx_hash": ctx.hex(),
            "content": content.hex(),
            "body": body.hex(),
        }

    def _evidence(self) -> Evidence:
        """All there can be, of bytes that no policy would take."""
        fido = Assertion(seed("credential", 48), seed("authenticator", 37), b"", seed("assertion", 71))
        attestation = (certificate("viewer", "attestation", token_key("viewer attestation")),)
        return Evidence((seed("ocsp answer", 700),), fido, attestation)

    def _keys(self, first: int) -> tuple[GrantedKey, ...]:
        session, signing = self.camera.own.party.session, self.camera.own.announce.signing
        made = []
        for kid, stream in enumerate(self.camera.own.announce.streams, first):
            base_key = seed(f"base key {kid}", 64)
            commit = commit_base_key(base_key, kid, session, signing)
            made.append(GrantedKey(stream.id, kid, commit, base_key, signing))
        return tuple(made)

    def _presence(self) -> Presence:
        camera, viewer = self.camera.own.party, self.viewer.own.party
        roster = cbor.encode(sorted([party.session, party.leaf] for party in (camera, viewer)))
        positions = tuple(Position(key.stream, key.kid, 300, key.commit) for key in self._keys(1))
        return Presence(
            camera.leaf,
            camera.session,
            1,
            7,
            seed("beacon nonce", 16),
            ((viewer.session, seed("viewer nonce", 16)),),
            hashlib.sha256(roster).digest(),
            positions,
        )

    def _refuse(self, nonce: bytes, request: bytes) -> None:
        plaintext = Refuse(nonce, "policy").encode()
        self._sealed("refuse", self.camera, self.viewer, plaintext, request)

    def _grant(self, nonce: bytes, request: bytes) -> None:
        camera, viewer = self.camera.own, self.viewer.own
        ctx = camera.context("grant", viewer.party, request)
        secret = seed("link L")
        keys = Keys(self._keys(1), secret, 1, self._presence().roster, 0).encode()
        sealed = self._recorded(ctx.hex(), keys.hex())
        outer = sealing.xwing_public(viewer.announce.xwing)
        inner = sealing.p256_public(viewer.announce.data)
        made = bytes.fromhex(sealed) if sealed else sealing.seal_twice(outer, inner, keys, ctx)
        payload = Grant(viewer.digest, nonce, made).encode()
        self._message("grant", self.camera, payload, self.viewer, request, keys)
        link = Link.begin(ctx, secret)
        chain: list[Vector] = []
        for number in range(66):
            message_key, after = link.next()
            if number in (0, 1, 2, 64, 65):
                chain.append({"n": number, "ck": link.chain_key.hex(), "mk": message_key.hex()})
            link = after
        self.links = {"grant_ctx_hash": ctx.hex(), "link": secret.hex(), "chain": chain}

    def _rekey(self) -> None:
        camera, viewer = self.camera.own, self.viewer.own
        ctx, key_seq, number = camera.context("rekey"), 2, 2
        keks = {key.stream: seed(f"kek {key.kid}") for key in self._keys(3)}
        new, shown = [], []
        for key in self._keys(3):
            aad = key_aad(ctx, key_seq, key.kid)
            new.append(NewKey(key.stream, key.kid, key.commit, wrap(keks[key.stream], key.base_key, aad)))
            shown.append(
                {
                    "stream": key.stream,
                    "kid": key.kid,
                    "base_key": key.base_key.hex(),
                    "commit": key.commit.hex(),
                    "kek": keks[key.stream].hex(),
                    "aad": aad.hex(),
                    "sealed": new[-1].sealed.hex(),
                }
            )
        message_key, _ = Link.begin(
            bytes.fromhex(self.links["grant_ctx_hash"]), bytes.fromhex(self.links["link"])
        ).at(number)
        # The viewer may have the camera alone.
        plaintext = Rekey.encode_keks([keks["camera"], None])
        aad = link_aad(ctx, key_seq, viewer.party.session)
        wrapped = wrap(message_key, plaintext, aad)
        link = Wrapped(viewer.party.session, number, wrapped)
        self.links["rekey"] = {
            "ctx_hash": ctx.hex(),
            "key_seq": key_seq,
            "keys": shown,
            "n": number,
            "keks": plaintext.hex(),
            "aad": aad.hex(),
            "wrapped": wrapped.hex(),
        }
        self._message("rekey", self.camera, Rekey(key_seq, tuple(new), (link,)).encode())

    def _sealed(
        self, kind: str, sender: Cast, receiver: Cast, plaintext: bytes, request: bytes = b""
    ) -> bytes:
        ctx = sender.own.context(kind, receiver.own.party, request)
        sealed = self._recorded(ctx.hex(), plaintext.hex())
        public = sealing.xwing_public(receiver.own.announce.xwing)
        made = bytes.fromhex(sealed) if sealed else sealing.seal(public, plaintext, ctx)
        payload = Sealed(receiver.own.digest, made).encode()
        return self._message(kind, sender, payload, receiver, request, plaintext)

    def _message(
        self,
        kind: str,
        sender: Cast,
        payload: bytes,
        receiver: Cast | None = None,
        request: bytes = b"",
        plaintext: bytes | None = None,
    ) -> bytes:
        """Sign and record it; returns its hash."""
        own = sender.own
        announcement = b"" if kind == "announce" else own.digest
        me = [own.party.leaf, own.party.session, own.party.epoch, announcement]
        peer = receiver.own.party if receiver else None
        them = [peer.leaf, peer.session, peer.epoch, peer.announcement] if peer else []
        ctx = cbor.encode(["dongled/1", kind, MEETING, me, them, request, [5]])
        hashed = hashlib.sha256(ctx).digest()
        if kind in cose.TOKEN_SIGNED:
            protected = cose.token_header(own.chain)
            tbs = cose.structure(kind, protected, payload, hashed)
            message = cose.envelope(kind, protected, payload, sender.token_sign(hashlib.sha256(tbs).digest()))
        else:
            protected = cose.epoch_header(own.digest)
            message, _ = own.sign(kind, payload, hashed)
            tbs = cose.structure(kind, protected, payload, hashed)
        digest = hashlib.sha256(tbs).digest()
        vector: Vector = {
            "type": kind,
            "sender": sender.name,
            "receiver": receiver.name if receiver else None,
            "request": request.hex(),
            "ctx": ctx.hex(),
            "ctx_hash": hashed.hex(),
            "external_aad": (f"dongled/1 {kind}".encode() + hashed).hex(),
            "protected": protected.hex(),
            "payload": payload.hex(),
            "sig_structure": tbs.hex(),
            "hash": digest.hex(),
            "message": message.hex(),
        }
        if plaintext is not None:
            vector |= {"plaintext": plaintext.hex(), "sealed": cbor.decode(payload)["sealed"].hex()}
        self.vectors.append(vector)
        return digest


def frames(camera: Cast) -> list[Vector]:
    """Key and delta frames at the edges of the header's encoding, in both suites."""
    made = []
    for suite, kid, ctr, keyframe in (
        (5, 1, 0, True),
        (5, 1, 1, False),
        (5, 7, 7, False),
        (5, 8, 255, False),
        (5, 2**63, 65536, False),
        (4, 300, 9, True),
        (4, 300, 10, False),
    ):
        base_key = seed(f"frame key {suite} {kid}", limits.BASE_KEY[suite])
        head = bytes.fromhex("1000009d012a4001f000") if keyframe else b"\x31"
        rest = seed(f"picture {kid} {ctr}", 100)
        session = camera.own.party.session
        metadata = cbor.encode([1, MEETING, session, "camera", "vp8", head])
        place = kid.to_bytes(8) + ctr.to_bytes(8)
        statement = (
            b"dongled/1 frame" + hashlib.sha256(metadata).digest() + place + hashlib.sha256(rest).digest()
        )
        signature = camera.own.signing.sign(statement)
        key = sframe.derive(suite, base_key, kid)
        made.append(
            {
                "suite": suite,
                "kid": kid,
                "ctr": ctr,
                "stream": "camera",
                "codec": "vp8",
                "base_key": base_key.hex(),
                "encoded": (head + rest).hex(),
                "clear": head.hex(),
                "metadata": metadata.hex(),
                "statement": statement.hex(),
                "signature": signature.hex(),
                "wire": (head + sframe.seal(key, ctr, metadata, rest + signature)).hex(),
            }
        )
    return made


def framing() -> list[Vector]:
    """What goes through the SFU for a message of each number of packets."""
    sizes = (1, bus.CHUNK, bus.CHUNK + 1, 2 * bus.CHUNK + 5)
    made = []
    for size in sizes:
        message = seed(f"bus {size}", size)
        packets = [base64.b64decode(text) for text in bus.chunk(message)]
        heads = [packet[:19].hex() for packet in packets]
        digests = [hashlib.sha256(text.encode()).hexdigest() for text in bus.chunk(message)]
        made.append({"label": f"bus {size}", "size": size, "heads": heads, "text_sha256": digests})
    return made


def build(recorded: Recorded) -> dict[str, Any]:
    """The contents of each file, by its name."""
    messages = Messages(recorded)
    messages.make()
    camera = messages.camera
    context_of = StreamContext(MEETING, camera.own.party.session, "camera", "vp8")
    return {
        "parties": {
            "meeting": MEETING,
            "camera": camera.vector(),
            "viewer": messages.viewer.vector(),
            "display": encrypted_display(context_of.session, context_of.stream),
        },
        "messages": messages.vectors,
        "links": messages.links,
        "frames": frames(camera),
        "bus": framing(),
    }


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def recorded_seals() -> Recorded:
    """The seals that the files hold."""
    known = {}
    for message in load("messages"):
        letter = message.get("letter", {})
        if "sealed" in message:
            ctx = letter.get("seal_ctx_hash", message["ctx_hash"])
            known[ctx, message["plaintext"]] = message["sealed"]
        if letter.get("kind") in private_messages.SECRET:
            known[letter["seal_ctx_hash"], letter["content"]] = letter["body"]
    return lambda ctx, plaintext: known.get((ctx, plaintext))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    recorded: Recorded = recorded_seals() if (FOLDER / "messages.json").exists() else lambda c, p: None
    for name, value in build(recorded).items():
        (FOLDER / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
