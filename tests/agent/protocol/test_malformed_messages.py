"""Bytes that are no message, keys that are no keys, more senders than can be: each has its reason."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.protocol import forge
from agent.protocol.bus import SoftToken, certificate, kind_of, point_of
from agent.protocol.insider import KINDS, Meeting, forged_request
from dongled.agent.protocol import cbor, cose
from dongled.agent.protocol.context import Party, context


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


@pytest.mark.property("P14")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cbor-malformed"),
        (b"garbage", "cbor-malformed"),
        (b"\x81" * 60_000, "cbor-depth"),
        (b"\x00" * 70_000, "too-large"),
        (cbor.encode([]), "malformed-envelope"),
        (cbor.encode({"a": 1}), "malformed-envelope"),
        (cbor.encode(["dongled/2", "announce", [b"", {}, b"", bytes(64)]]), "version"),
        (cbor.encode(["dongled/1", "nonsense", [b"", {}, b"", bytes(64)]]), "unknown-type"),
        (cbor.encode(["dongled/1", "announce", [b"", {}, b"", bytes(63)]]), "malformed-envelope"),
        (cbor.encode(["dongled/1", "announce", [b"", {4: b"x"}, b"", bytes(64)]]), "malformed-envelope"),
        (cbor.encode(["dongled/1", "announce", [b"\x00", {}, b"", bytes(64)]]), "malformed-envelope"),
        (cbor.encode(["dongled/1", "announce", [b"\xa0", {}, b"", bytes(64)]]), "algorithm"),
        (cbor.encode(["dongled/1", "grant", [cose.token_header([b"c"]), {}, b"", bytes(64)]]), "algorithm"),
        (
            cbor.encode(["dongled/1", "announce", [cose.epoch_header(bytes(32)), {}, b"", bytes(64)]]),
            "algorithm",
        ),
        (
            cbor.encode(["dongled/1", "leave", [cose.epoch_header(bytes(31)), {}, b"", bytes(64)]]),
            "malformed-envelope",
        ),
        (
            cbor.encode(["dongled/1", "announce", [cose.token_header([b"c"] * 5), {}, b"\xa0", bytes(64)]]),
            "malformed-envelope",
        ),
        (
            cbor.encode(["dongled/1", "announce", [cose.token_header([b"c"]), {}, b"\xa0", bytes(64)]]),
            "malformed-announce",
        ),
    ],
)
def test_bad_bytes_have_their_reason(meeting: Meeting, data: bytes, reason: str) -> None:
    assert meeting.give(meeting.camera, data) == reason
    assert meeting.camera.member.counters.refused == {reason: 1}


@pytest.mark.property("P14")
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_flipped_messages_are_refused_and_never_crash(kind: str) -> None:
    meeting = Meeting(seed=5)
    sender = (
        meeting.camera if kind in ("announce", "grant", "rekey", "welcome", "presence") else meeting.viewer
    )
    message, rng = forge.last(meeting.bus, sender, kind), random.Random(kind)
    derives, seals = meeting.viewer.token.counts["derive"], len(meeting.camera.sealed_at)
    opened = len(meeting.viewer.ever_opened)
    for receiver in (meeting.camera, meeting.viewer):
        for _ in range(60):
            cut = message[: rng.randrange(len(message))]
            flipped = bytearray(message)
            flipped[rng.randrange(len(message))] ^= 1 << rng.randrange(8)
            meeting.bus.now += 0.2
            meeting.bus.deliver(receiver, cut)
            meeting.bus.deliver(receiver, bytes(flipped))
    assert "quota" not in meeting.viewer.reasons()
    assert meeting.viewer.token.counts["derive"] == derives
    assert len(meeting.viewer.ever_opened) == opened
    assert len(meeting.camera.sealed_at) == seals


@pytest.mark.property("P14")
def test_a_flood_from_one_source_is_cut_off_and_no_other_source_suffers(meeting: Meeting) -> None:
    for _ in range(1000):
        meeting.bus.deliver(meeting.camera, b"noise", "flooder")
    assert meeting.camera.member.counters.refused["quota"] > 700
    meeting.still_fine()


def test_unknown_senders_are_held_in_small_numbers() -> None:
    meeting = Meeting()
    ctx, begun = bytes(32), meeting.bus.now
    for n in range(300):
        forged = forge.sign("leave", cbor.encode({"counter": n}), meeting.insider, ctx, claim=n.to_bytes(32))
        meeting.bus.now += 0.01
        meeting.bus.deliver(meeting.camera, forged)
    assert len(meeting.camera.member._early._held) <= 32
    assert meeting.camera.member.counters.refused["unknown-sender"] > 200
    announced = sum(
        who is meeting.camera and kind_of(m) == "announce" for at, who, m in meeting.bus.log if at >= begun
    )
    assert announced <= 3
    meeting.still_fine()


@pytest.mark.property("P4")
def test_a_wrong_curve_or_no_curve_is_refused(meeting: Meeting) -> None:
    insider = forge.epoch_of(meeting.insider)
    other = ec.generate_private_key(ec.SECP256K1())
    for point in (point_of(other), bytes(65), b"\x04" + bytes(64)):
        payload = replace(insider.announce, data=point, session=b"\x01" * 16)
        party = Party(insider.party.leaf, b"\x01" * 16, 1)
        ctx = context("announce", "meeting", party, payload.suites)
        forged = forge.token_sign("announce", payload.encode(), list(insider.chain), meeting.insider, ctx)
        assert meeting.give(meeting.camera, forged) == "bad-point"


def test_the_roster_is_bounded_and_makes_room_only_at_the_unproven_s_cost() -> None:
    meeting = Meeting()
    for n in range(100):
        token = SoftToken()
        chain = [certificate(f"ghost{n}", token)]
        leaf = hashlib.sha256(chain[0]).digest()
        session = n.to_bytes(16)
        base = forge.epoch_of(meeting.insider).announce
        payload = replace(base, leaf=leaf, session=session, terminal=f"urn:uuid:ghost{n}")
        ctx = context("announce", "meeting", Party(leaf, session, 1), (5,))
        protected = cose.token_header(chain)
        digest = hashlib.sha256(cose.structure("announce", protected, payload.encode(), ctx)).digest()
        meeting.bus.deliver(
            meeting.camera, cose.envelope("announce", protected, payload.encode(), token.sign(digest))
        )
    peers = meeting.camera.member.peers(meeting.bus.now)
    assert len(peers) == 63
    assert {p.peer.subject for p in peers if p.live} == {"viewer", "insider"}
    assert all(p.same_roster for p in peers if p.live), "ghosts count for nothing"
    meeting.still_fine()


# Points of small order: whatever they are multiplied by, the shared secret is zero (RFC 7748, section 6.1).
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.property("P9")
@pytest.mark.property("P14")
@pytest.mark.parametrize("xwing", [*(("x25519", point) for point in SMALL_ORDER), ("ml-kem", b"\xff" * 1184)])
def test_a_key_that_nothing_can_be_sealed_to_is_refused_when_it_is_announced(
    meeting: Meeting, xwing: tuple[str, bytes]
) -> None:
    """Else whoever is to seal to it stumbles, in the middle of giving the others their keys."""
    which, bad = xwing
    insider = forge.epoch_of(meeting.insider)
    good = insider.announce.xwing
    key = good[:1184] + bad if which == "x25519" else bad + good[1184:]
    payload = replace(insider.announce, xwing=key, epoch=2, previous=insider.digest)
    ctx = context("announce", "meeting", Party(insider.party.leaf, insider.party.session, 2), payload.suites)
    bad_one = forge.token_sign("announce", payload.encode(), list(insider.chain), meeting.insider, ctx)
    assert meeting.give(meeting.camera, bad_one) == "bad-key"
    # What would have been answered by a grant, had the key been taken.
    digest = hashlib.sha256(cose.parse(bad_one).structure(ctx)).digest()
    nonce = meeting.insider.member._state.remotes[meeting.camera.session].nonce
    sender = Party(insider.party.leaf, insider.party.session, 2, digest)
    request = forged_request(meeting, digest, sender, echo=nonce, nonce=b"\x01" * 16)
    meeting.bus.deliver(meeting.camera, request)
    meeting.still_fine()
