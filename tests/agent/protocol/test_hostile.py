"""The bus and an insider do what they can. Every refusal has its reason, and the honest rest see on."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, SoftToken, Terminal, certificate, kind_of, point_of
from dongled.agent.policy.api import CheckedCertificate
from dongled.agent.protocol import cbor, cose, limits, sealing
from dongled.agent.protocol.api import Stream
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.messages import Grant, GrantedKey, Keys, Refuse, Request, Sealed
from dongled.media.keyring import commit_base_key

KINDS = ["announce", "welcome", "presence", "request", "grant", "rekey"]


class Meeting:
    """A camera, a viewer, and an insider with a valid certificate."""

    def __init__(self, seed: int = 1) -> None:
        self.bus = Bus(seed)
        self.camera = self.bus.join("camera", CAMERA)
        self.bus.run(1)
        self.viewer = self.bus.join("viewer")
        self.bus.run(1)
        self.insider = self.bus.join("insider", CAMERA)
        self.bus.run(9)
        assert self.viewer.can_watch(self.camera)
        for terminal in self.bus.terminals:
            assert terminal.refused == []

    def give(self, to: Terminal, message: bytes) -> str | None:
        """Deliver; the reason it was refused for, None when it was not."""
        before = len(to.refused)
        self.bus.deliver(to, message)
        return to.refused[-1].reason if len(to.refused) > before else None

    def still_fine(self) -> None:
        self.bus.run(30)
        assert self.viewer.can_watch(self.camera)
        assert {status.live for status in self.camera.member.peers(self.bus.now)} == {True}

    def ask(self, viewer: Terminal) -> bytes:
        """Make the viewer's request appear, and keep it from the camera."""
        self.bus.interfere = lambda s, r, m: [] if kind_of(m) == "request" else [m]
        feed = viewer.member._subscriber.feeds[self.camera.session]
        feed.missing, feed.ask_at, feed.link = True, 0.0, None
        viewer.member.tick(self.bus.now)
        self.bus.settle(viewer)
        self.bus.interfere = lambda s, r, m: [m]
        assert feed.asked is not None
        return feed.asked.message


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


# --- bytes


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


# --- replay


@pytest.mark.property("P11")
@pytest.mark.parametrize("kind", KINDS)
def test_replays_in_the_same_meeting_change_nothing(kind: str) -> None:
    meeting = Meeting()
    camera, viewer = meeting.camera, meeting.viewer
    sender, receiver = (viewer, camera) if kind == "request" else (camera, viewer)
    addressed = receiver if kind in ("welcome", "request", "grant") else None
    message = forge.last(meeting.bus, sender, kind, addressed)
    derives = viewer.token.counts["derive"]
    generation, keys = camera.member.generation("camera"), len(viewer.ever_opened)
    reasons = {meeting.give(receiver, message) for _ in range(3)}
    meeting.bus.run(0.5)
    assert camera.member.generation("camera") == generation
    assert viewer.token.counts["derive"] == derives
    assert len(viewer.ever_opened) == keys
    if kind in ("presence", "grant"):
        assert reasons == {"presence-replayed" if kind == "presence" else "nonce-not-outstanding"}
    meeting.still_fine()


@pytest.mark.property("P11")
def test_an_old_rekey_is_refused(meeting: Meeting) -> None:
    old = forge.last(meeting.bus, meeting.camera, "rekey")
    meeting.bus.join("one")
    meeting.bus.run(3)
    assert meeting.give(meeting.viewer, old) == "key-seq-old"


@pytest.mark.property("P11")
def test_an_old_request_is_refused(meeting: Meeting) -> None:
    old = forge.last(meeting.bus, meeting.viewer, "request", meeting.camera)
    meeting.bus.deliver(meeting.camera, meeting.ask(meeting.viewer))
    meeting.bus.run(1)
    assert meeting.give(meeting.camera, old) == "request-replayed"


@pytest.mark.property("P4")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_crosses_into_another_meeting(kind: str) -> None:
    """The same tokens, the same certificates, the same bus: another meeting's name."""
    meeting = Meeting()
    sender = meeting.viewer if kind == "request" else meeting.camera
    message = forge.last(meeting.bus, sender, kind)
    other = Bus(seed=9)
    camera = other.join("camera", CAMERA, token=meeting.camera.token, meeting="another")
    viewer = other.join("viewer", token=meeting.viewer.token, meeting="another")
    other.run(5)
    for receiver in (camera, viewer):
        before = len(receiver.ever_opened)
        other.deliver(receiver, message)
        other.run(1)
        assert len(receiver.ever_opened) == before
        if kind == "announce" and receiver is viewer:
            assert "other-meeting" in receiver.reasons()
    assert viewer.can_watch(camera)
    assert {len(t.member.peers(other.now)) for t in (camera, viewer)} == {1}


@pytest.mark.property("P11")
def test_nothing_survives_a_restart_of_the_receiver(meeting: Meeting) -> None:
    recorded = [m for _, who, m in meeting.bus.log if who is not meeting.viewer]
    bus = Bus(seed=11)
    derives = meeting.viewer.token.counts["derive"]
    again = bus.join("viewer", token=meeting.viewer.token)
    bus.run(1)
    for message in recorded:
        bus.now += 0.1
        bus.deliver(again, message)
    bus.run(5)
    assert again.ever_opened == []
    assert again.token.counts["derive"] == derives
    assert not any(status.live for status in again.member.peers(bus.now))


@pytest.mark.property("P11")
def test_nothing_survives_a_restart_of_the_sender(meeting: Meeting) -> None:
    """The viewer restarts; what its first session said is replayed to the camera."""
    recorded = [m for _, who, m in meeting.bus.log if who is meeting.viewer]
    meeting.bus.vanish(meeting.viewer)
    again = meeting.bus.join("viewer", token=meeting.viewer.token)
    meeting.bus.run(3)
    assert again.can_watch(meeting.camera)
    reasons = {meeting.give(meeting.camera, message) for message in recorded}
    assert reasons <= {"session-ended", "superseded", "presence-replayed", None}
    assert "session-ended" in reasons
    meeting.bus.run(3)
    assert again.can_watch(meeting.camera)
    assert not meeting.viewer.can_watch(meeting.camera)


@pytest.mark.property("P11")
def test_reflection(meeting: Meeting) -> None:
    for kind in KINDS:
        message = forge.last(meeting.bus, meeting.camera, kind) if kind != "request" else None
        if message is not None and kind != "grant":
            assert meeting.give(meeting.camera, message) in ("reflected", None)
    for kind in ("announce", "presence", "rekey"):
        assert meeting.give(meeting.camera, forge.last(meeting.bus, meeting.camera, kind)) == "reflected"


# --- splices and forgeries by an insider


@pytest.mark.property("P3")
def test_an_insider_announces_another_s_certificate(meeting: Meeting) -> None:
    victim = forge.epoch_of(meeting.viewer)
    mine = forge.epoch_of(meeting.insider).announce
    payload = replace(mine, leaf=victim.party.leaf, terminal=victim.announce.terminal, session=bytes(16))
    party = Party(victim.party.leaf, bytes(16), 1)
    ctx = context("announce", "meeting", party, payload.suites)
    forged = forge.token_sign("announce", payload.encode(), list(victim.chain), meeting.insider, ctx)
    assert meeting.give(meeting.camera, forged) == "signature"
    # Its own certificate, another's name.
    own_chain = list(forge.epoch_of(meeting.insider).chain)
    forged = forge.token_sign("announce", payload.encode(), own_chain, meeting.insider, ctx)
    assert meeting.give(meeting.camera, forged) == "identity-mismatch"
    meeting.still_fine()


@pytest.mark.property("P3")
def test_a_splice_of_two_announcements(meeting: Meeting) -> None:
    """The insider's keys in the viewer's announcement, under the viewer's signature."""
    theirs = forge.epoch_of(meeting.insider).announce
    for name in ("xwing", "signing", "data", "session"):
        value = getattr(theirs, name)
        new = {name: value, "epoch": 2, "previous": bytes(32)}
        announcement = forge.last(meeting.bus, meeting.viewer, "announce")
        spliced = forge.edit(announcement, partial(dict.update, **new))
        assert meeting.give(meeting.camera, spliced) == "signature"
    meeting.still_fine()


@pytest.mark.property("P13")
def test_an_insider_prolongs_another_s_life(meeting: Meeting) -> None:
    dead = meeting.viewer
    meeting.bus.vanish(dead)
    beacon = forge.last(meeting.bus, dead, "presence")
    epoch = forge.epoch_of(dead)

    def newer(fields: dict[str, object]) -> None:
        fields["counter"] = 10_000

    edited = forge.edit(beacon, newer)
    assert meeting.give(meeting.camera, edited) == "signature"
    payload = cbor.decode(edited)[2][2]
    ctx = epoch.context("presence")
    by_insider = forge.token_sign("presence", payload, list(epoch.chain), meeting.insider, ctx)
    assert meeting.give(meeting.camera, by_insider) == "signature"
    own_chain = list(forge.epoch_of(meeting.insider).chain)
    by_insider = forge.token_sign("presence", payload, own_chain, meeting.insider, ctx)
    assert meeting.give(meeting.camera, by_insider) == "identity-mismatch"
    meeting.bus.run(27)
    assert dead.session in {session for _, session, _ in meeting.camera.left}


def forged_request(meeting: Meeting, claim: bytes | None, sender: Party, **fields: object) -> bytes:
    camera = forge.epoch_of(meeting.camera)
    inside = {
        "streams": ("camera",),
        "echo": bytes(16),
        "nonce": bytes(16),
        "counter": 1000,
        "key_seq": 0,
        **fields,
    }
    ctx = context("request", "meeting", sender, (5,), camera.party)
    inner = Request(**inside)  # type: ignore[arg-type] # the fields as the test gives them
    sealed = sealing.seal(sealing.xwing_public(camera.sealing.public), inner.encode(), ctx)
    payload = Sealed(camera.digest, sealed).encode()
    return forge.sign("request", payload, meeting.insider, ctx, claim=claim)


@pytest.mark.property("P4")
def test_requests_in_another_s_name_and_with_foreign_nonces(meeting: Meeting) -> None:
    victim, own = forge.party_of(meeting.viewer), forge.party_of(meeting.insider)
    assert meeting.give(meeting.camera, forged_request(meeting, victim.announcement, victim)) == "signature"
    assert meeting.give(meeting.camera, forged_request(meeting, None, victim)) == "signature"
    unknown = forged_request(meeting, None, own)
    assert meeting.give(meeting.camera, unknown) == "nonce-not-outstanding"
    # The nonce that the camera gave to the viewer, as the viewer heard it in its welcome.
    welcomes = [
        cbor.decode(m) for _, who, m in meeting.bus.log if who is meeting.camera and kind_of(m) == "welcome"
    ]
    payloads = [cbor.decode(w[2][2]) for w in welcomes]
    theirs = next(p["nonce"] for p in payloads if p["to"] == victim.announcement)
    borrowed = forged_request(meeting, None, own, echo=theirs)
    assert meeting.give(meeting.camera, borrowed) == "nonce-not-outstanding"
    meeting.still_fine()


@pytest.mark.property("P11")
def test_a_nonce_older_than_25_seconds_is_refused(meeting: Meeting) -> None:
    old = cbor.decode(cbor.decode(forge.last(meeting.bus, meeting.camera, "presence"))[2][2])["nonce"]
    meeting.bus.run(26)
    request = forged_request(meeting, None, forge.party_of(meeting.insider), echo=old)
    assert meeting.give(meeting.camera, request) == "nonce-not-outstanding"


@pytest.mark.property("P4")
def test_a_request_meant_for_another_publisher(meeting: Meeting) -> None:
    """The camera's own viewer asked it; the insider, a publisher too, is handed that request."""
    request = forge.last(meeting.bus, meeting.viewer, "request", meeting.camera)
    redirected = forge.edit(
        request, lambda fields: fields.update({"to": forge.party_of(meeting.insider).announcement})
    )
    assert meeting.give(meeting.insider, redirected) == "signature"


def forged_grant(
    meeting: Meeting, asked: bytes, sender: Terminal, claim: bytes | None, keys: Callable[[], Keys]
) -> bytes:
    viewer, epoch = forge.epoch_of(meeting.viewer), forge.epoch_of(sender)
    feed = meeting.viewer.member._subscriber.feeds[meeting.camera.session]
    assert feed.asked is not None
    ctx = context("grant", "meeting", epoch.party, (5,), viewer.party, feed.asked.digest)
    sealed = sealing.seal_twice(
        sealing.xwing_public(viewer.sealing.public),
        meeting.viewer.token.data.public_key(),
        keys().encode(),
        ctx,
    )
    payload = Grant(viewer.digest, feed.asked.nonce, sealed).encode()
    return forge.sign("grant", payload, meeting.insider, ctx, claim=claim)


def false_keys(
    session: bytes,
    *,
    commit: bytes | None = None,
    kid: int = 900,
    stream: str = "camera",
    key_seq: int = 900,
) -> Keys:
    base_key = b"\x07" * 64
    commit = commit or commit_base_key(base_key, kid, session, bytes(32))
    return Keys((GrantedKey(stream, kid, commit, base_key, bytes(32)),), bytes(32), key_seq, bytes(32), 0)


@pytest.mark.property("P4")
def test_an_insider_grants_in_the_camera_s_name(meeting: Meeting) -> None:
    asked, camera = meeting.ask(meeting.viewer), meeting.camera
    derives = meeting.viewer.token.counts["derive"]
    digest = forge.party_of(camera).announcement
    as_camera = forged_grant(meeting, asked, camera, digest, lambda: false_keys(camera.session))
    assert meeting.give(meeting.viewer, as_camera) == "signature"
    as_itself = forged_grant(meeting, asked, meeting.insider, None, lambda: false_keys(camera.session))
    assert meeting.give(meeting.viewer, as_itself) == "nonce-not-outstanding"
    assert meeting.viewer.token.counts["derive"] == derives, "no derive before a signature held"
    assert b"\x07" * 64 not in {key.base_key for key in meeting.viewer.ever_opened}
    meeting.still_fine()


@pytest.mark.property("P4")
@pytest.mark.parametrize("what", ["to-insider", "other-request", "no-request", "bad-point"])
def test_a_true_publisher_s_grant_for_another_opens_nowhere(meeting: Meeting, what: str) -> None:
    camera, viewer = forge.epoch_of(meeting.camera), forge.epoch_of(meeting.viewer)
    derives = meeting.viewer.token.counts["derive"]
    if what != "no-request":
        meeting.ask(meeting.viewer)
    feed = meeting.viewer.member._subscriber.feeds[meeting.camera.session]
    nonce, digest = (feed.asked.nonce, feed.asked.digest) if feed.asked else (bytes(16), bytes(32))
    receiver = forge.party_of(meeting.insider) if what == "to-insider" else viewer.party
    ctx = camera.context("grant", receiver, bytes(32) if what == "other-request" else digest)
    outer = sealing.xwing_public(viewer.sealing.public)
    if what == "bad-point":
        sealed = sealing.seal(outer, b"\x04" + b"\x01" * 100, ctx)
    else:
        sealed = sealing.seal_twice(
            outer, meeting.viewer.token.data.public_key(), false_keys(meeting.camera.session).encode(), ctx
        )
    message, _ = camera.sign("grant", Grant(viewer.digest, nonce, sealed).encode(), ctx)
    expected = {"no-request": "nonce-not-outstanding", "bad-point": "bad-point"}.get(what, "signature")
    assert meeting.give(meeting.viewer, message) == expected
    meeting.bus.run(0.1)
    assert meeting.viewer.token.counts["derive"] == derives


@pytest.mark.property("P8")
@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"commit": bytes(32)}, "commitment"),
        ({"kid": 1}, "kid-old"),
        ({"key_seq": 1}, "key-seq-old"),
        # The generation that is held, with another key.
        ({"kid": None}, "kid-old"),
        ({"stream": "other"}, "unknown-stream"),
    ],
)
def test_a_publisher_that_cheats_is_not_installed(keys: dict[str, object], reason: str) -> None:
    meeting = Meeting()
    asked, camera = meeting.ask(meeting.viewer), forge.epoch_of(meeting.camera)
    viewer = forge.epoch_of(meeting.viewer)
    feed = meeting.viewer.member._subscriber.feeds[meeting.camera.session]
    assert feed.asked is not None
    assert asked == feed.asked.message
    if keys.get("kid", 0) is None:
        keys = {**keys, "kid": feed.held["camera"].kid}
    ctx = camera.context("grant", viewer.party, feed.asked.digest)
    inside = false_keys(meeting.camera.session, **keys)  # type: ignore[arg-type] # by name
    sealed = sealing.seal_twice(
        sealing.xwing_public(viewer.sealing.public),
        meeting.viewer.token.data.public_key(),
        inside.encode(),
        ctx,
    )
    message, _ = camera.sign("grant", Grant(viewer.digest, feed.asked.nonce, sealed).encode(), ctx)
    opened, derives = len(meeting.viewer.ever_opened), meeting.viewer.token.counts["derive"]
    assert meeting.give(meeting.viewer, message) is None
    # The same once more, while the token works: not a second derive.
    assert meeting.give(meeting.viewer, message) == "nonce-not-outstanding"
    meeting.bus.run(0.05)
    assert meeting.viewer.refused[-1].reason == reason
    assert meeting.viewer.token.counts["derive"] == derives + 1
    assert len(meeting.viewer.ever_opened) == opened


@pytest.mark.property("P8")
def test_a_beacon_that_commits_to_another_key_stops_the_picture(meeting: Meeting) -> None:
    position = meeting.camera.member._publisher._positions
    (at,) = position.values()
    position["camera"] = type(at)(at.stream, at.kid, at.ctr, bytes(32))
    meeting.bus.run(8)
    assert "commitment" in meeting.viewer.reasons()
    assert "equivocation" in {alarm.reason for alarm in meeting.viewer.alarms}


@pytest.mark.property("P6")
def test_an_insider_rekeys_in_the_camera_s_name(meeting: Meeting) -> None:
    rekey, camera = forge.last(meeting.bus, meeting.camera, "rekey"), forge.epoch_of(meeting.camera)
    newer = forge.edit(rekey, lambda fields: fields.update({"key_seq": 900}))
    assert meeting.give(meeting.viewer, newer) == "signature"
    ctx = camera.context("rekey")
    by_insider = forge.resign(newer, meeting.insider, ctx, claim=camera.digest)
    assert meeting.give(meeting.viewer, by_insider) == "signature"
    assert meeting.give(meeting.viewer, forge.resign(newer, meeting.insider, ctx)) == "signature"
    meeting.still_fine()


@pytest.mark.property("P6")
def test_a_rekey_whose_wraps_are_swapped_does_not_move_the_link(meeting: Meeting) -> None:
    rekey, camera = forge.last(meeting.bus, meeting.camera, "rekey"), forge.epoch_of(meeting.camera)
    feed = meeting.viewer.member._subscriber.feeds[meeting.camera.session]
    link = feed.link
    assert link is not None

    def far(fields: dict[str, object]) -> None:
        fields["key_seq"] = 900
        fields["links"] = [[meeting.viewer.session, link.number + 65, b"x" * 50]]

    payload = cbor.decode(forge.edit(rekey, far))[2][2]
    message, _ = camera.sign("rekey", payload, camera.context("rekey"))
    assert meeting.give(meeting.viewer, message) == "link-skip"
    meeting.still_fine()


@pytest.mark.property("P11")
def test_a_welcome_in_another_s_name(meeting: Meeting) -> None:
    camera = forge.epoch_of(meeting.camera)
    payload = cbor.encode({"to": forge.party_of(meeting.viewer).announcement, "nonce": bytes(16)})
    ctx = camera.context("welcome", forge.party_of(meeting.viewer))
    forged = forge.sign("welcome", payload, meeting.insider, ctx, claim=camera.digest)
    assert meeting.give(meeting.viewer, forged) == "signature"
    assert meeting.viewer.member._state.remotes[meeting.camera.session].nonce != bytes(16)


@pytest.mark.property("P6")
def test_a_leave_in_another_s_name(meeting: Meeting) -> None:
    viewer = forge.epoch_of(meeting.viewer)
    payload = cbor.encode({"counter": 99})
    forged = forge.sign("leave", payload, meeting.insider, viewer.context("leave"), claim=viewer.digest)
    assert meeting.give(meeting.camera, forged) == "signature"
    before, _ = viewer.sign("leave", cbor.encode({"counter": 0}), viewer.context("leave"))
    assert meeting.give(meeting.camera, before) == "presence-replayed"
    true, _ = viewer.sign("leave", payload, viewer.context("leave"))
    assert meeting.give(meeting.camera, true) is None
    assert meeting.give(meeting.camera, true) == "session-ended"


@pytest.mark.property("P6")
def test_what_an_expelled_insider_still_holds_opens_nothing(meeting: Meeting) -> None:
    """It goes on listening with all its keys: every later rekey is closed to it."""
    held = meeting.insider.member._subscriber.feeds[meeting.camera.session]
    meeting.camera.policy.deny["view"] = {"insider"}
    meeting.viewer.policy.deny["view"] = {"insider"}
    meeting.bus.join("another")
    meeting.bus.run(3)
    assert "denied-view" in meeting.camera.reasons()
    seal = meeting.camera.seals["camera"][-1]
    assert seal.base_key not in {key.base_key for key in meeting.insider.ever_opened}
    assert meeting.viewer.can_watch(meeting.camera)
    assert held.refused == "policy"
    assert {"left-out", "refused-by-peer"} <= meeting.insider.reasons()


# --- policy


@pytest.mark.property("P3")
@pytest.mark.parametrize("check", ["identity", "data", "view"])
def test_no_key_without_every_check(check: str) -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    camera.policy.deny[check] = {"viewer"}
    bus.run(1)
    viewer = bus.join("viewer")
    bus.run(40)
    assert f"denied-{check}" in camera.reasons()
    assert viewer.ever_opened == []
    if check == "view":
        assert "refused-by-peer" in viewer.reasons()
        status = viewer.member.peers(bus.now)[0]
        assert status.refused == "policy"


@pytest.mark.property("P3")
def test_authorisation_is_decided_when_sealing() -> None:
    """Allowed when it asked, denied before the next generation was sealed."""
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    first, second = bus.join("first"), bus.join("second")
    bus.run(0.05)
    assert first.can_watch(camera) or second.can_watch(camera)
    camera.policy.deny["identity"] = {"second", "first"}
    bus.run(2)
    denied = {key.base_key for t in (first, second) for key in t.ever_opened}
    assert camera.sealing() not in denied


@pytest.mark.property("P3")
def test_a_stream_of_somebody_who_may_not_publish_is_not_asked_for() -> None:
    bus = Bus()
    viewer = bus.join("viewer")
    viewer.policy.deny["publish"] = {"camera"}
    camera = bus.join("camera", CAMERA)
    bus.run(10)
    assert "denied-publish" in viewer.reasons()
    assert viewer.token.counts["derive"] == 0
    assert not viewer.can_watch(camera)


@pytest.mark.property("P2")
def test_a_data_key_without_a_certificate_counts_as_software() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.join("bare", data_chain=())
    bus.join("certified")
    bus.run(2)
    assert {peer.subject: peer.assurance for peer in camera.joined} == {
        "bare": "software",
        "certified": "hardware",
    }


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


@pytest.mark.property("P11")
def test_a_request_to_an_epoch_that_is_gone_is_not_for_me(meeting: Meeting) -> None:
    camera = meeting.camera.member._state
    request = meeting.ask(meeting.viewer)
    gone = camera._own
    camera._own = [(epoch, meeting.bus.now - 1) for epoch, _ in gone]
    grants = sum(kind_of(m) == "grant" for _, _, m in meeting.bus.log)
    meeting.bus.deliver(meeting.camera, request)
    camera._own = gone
    assert sum(kind_of(m) == "grant" for _, _, m in meeting.bus.log) == grants


@pytest.mark.property("P11")
def test_an_announcement_of_a_past_epoch_or_a_broken_chain(meeting: Meeting) -> None:
    viewer = forge.epoch_of(meeting.viewer)

    def announced(epoch: int, previous: bytes, signing: bytes = viewer.announce.signing) -> bytes:
        payload = replace(viewer.announce, epoch=epoch, previous=previous, signing=signing)
        party = Party(viewer.party.leaf, viewer.party.session, epoch)
        ctx = context("announce", "meeting", party, (5,))
        return forge.token_sign("announce", payload.encode(), list(viewer.chain), meeting.viewer, ctx)

    assert meeting.give(meeting.camera, announced(2, bytes(32))) == "epoch-chain"
    assert meeting.give(meeting.camera, announced(1, b"", signing=bytes(32))) == "stale-epoch"
    assert meeting.give(meeting.camera, announced(2, viewer.digest)) is None
    assert meeting.give(meeting.camera, forge.last(meeting.bus, meeting.viewer, "announce")) == "stale-epoch"


@pytest.mark.property("P13")
def test_a_grant_is_not_given_to_who_is_no_longer_live() -> None:
    meeting = Meeting()
    request = meeting.ask(meeting.viewer)
    remote = meeting.camera.member._state.remotes[meeting.viewer.session]
    remote.first_seen, remote.live_until = meeting.bus.now - 100, meeting.bus.now - 1
    assert meeting.give(meeting.camera, request) == "not-live"


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


@pytest.mark.property("P13")
@pytest.mark.parametrize("asked_at", [1.0, 15.0, limits.LIVE - 0.1])
def test_a_request_needs_no_token_and_proves_no_life_beyond_the_first_25_s(asked_at: float) -> None:
    bus = Bus()
    camera, viewer = bus.join("camera", CAMERA), bus.join("viewer")
    bus.run(0.5)
    # Pulled before its first beacon; the process keeps its epoch key, and asks when it likes.
    viewer.token_works = False
    pulled = bus.now
    first_seen = camera.member._state.remotes[viewer.session].first_seen
    bus.run(first_seen + asked_at - bus.now)
    feed = viewer.member._subscriber.feeds[camera.session]
    feed.missing, feed.asked, feed.ask_at = True, None, 0.0
    viewer.member.tick(bus.now)
    bus.settle(viewer)
    bus.run(pulled + 27 - bus.now)
    assert viewer.session not in {known.peer.session for known in camera.member.peers(bus.now)}
    assert camera.sealing() is None


@pytest.mark.property("P11")
def test_a_rekey_of_a_publisher_that_is_not_live_installs_nothing_even_while_it_is_asked() -> None:
    meeting = Meeting()
    feed = meeting.viewer.member._subscriber.feeds[meeting.camera.session]
    link = feed.link
    meeting.ask(meeting.viewer)
    feed.link = link
    meeting.bus.interfere = lambda s, r, m: [] if r is meeting.viewer else [m]
    meeting.bus.join("another")
    meeting.bus.run(1)
    remote = meeting.viewer.member._state.remotes[meeting.camera.session]
    remote.live_until = meeting.bus.now - 0.1
    opened = len(meeting.viewer.ever_opened)
    assert meeting.give(meeting.viewer, forge.last(meeting.bus, meeting.camera, "rekey")) == "not-live"
    assert len(meeting.viewer.ever_opened) == opened


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


@pytest.mark.property("P10")
@pytest.mark.parametrize("codec", ["vp9", "h264 ", "VP8", "pcm"])
def test_a_stream_of_a_codec_without_a_rule_is_never_asked_for(codec: str) -> None:
    """Its publisher has a valid certificate, and its other stream is shown."""
    bus = Bus()
    viewer = bus.join("viewer")
    publisher = bus.join("publisher", (*CAMERA, Stream("odd", codec)))
    bus.run(10)
    assert viewer.can_watch(publisher)
    assert {key.stream.id for key in viewer.ever_opened} == {"camera"}
    assert viewer.reasons() == {"codec-refused"}


# --- delays, splices, and what is kept from some


@pytest.mark.property("P11")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("request", "request-replayed"),
        ("grant", "nonce-not-outstanding"),
        ("rekey", "key-seq-old"),
        ("presence", "presence-replayed"),
        ("announce", "stale-epoch"),
    ],
)
def test_what_was_held_back_is_refused_when_it_comes_at_last(kind: str, reason: str) -> None:
    """The bus keeps one message of a kind from its receiver, and delivers it 15 s later."""
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    sender = camera
    held: list[bytes] = []
    if kind in ("request", "grant"):
        receiver = bus.join("viewer", start=False)
        sender, receiver = (receiver, camera) if kind == "request" else (camera, receiver)
    else:
        receiver = bus.join("viewer")
        bus.run(9)

    def keep(s: Terminal, r: Terminal, message: bytes) -> list[bytes]:
        same = not held or held[0] == message
        if (s, r, kind_of(message)) == (sender, receiver, kind) and same:
            held.append(message)
            return []
        return [message]

    bus.interfere = keep
    if kind in ("request", "grant"):
        bus.terminals[-1].member.start(bus.now)
        bus.settle(bus.terminals[-1])
    elif kind == "rekey":
        bus.join("another")
        bus.run(2)
        bus.join("yet another")
    elif kind == "announce":
        held.append(forge.last(bus, camera, "announce"))
        camera.member._rounds._begin(bus.now)
        bus.settle(camera)
    bus.run(15)
    before = len(receiver.refused)
    opened = len(receiver.ever_opened)
    bus.deliver(receiver, held[0])
    assert [refused.reason for refused in receiver.refused[before:]] == [reason]
    assert len(receiver.ever_opened) == opened
    bus.run(10)
    assert bus.terminals[1].can_watch(camera)


@pytest.mark.property("P4")
@pytest.mark.parametrize("kind", ["announce", "presence", "welcome", "request", "grant"])
def test_no_splice_of_two_sessions_of_one_terminal_holds(kind: str) -> None:
    """Headers, payloads and signatures of the same kind, of the session before and of this one."""
    bus = Bus()
    camera, viewer = bus.join("camera", CAMERA), bus.join("viewer", CAMERA)
    bus.run(9)
    sender, receiver = (viewer, camera) if kind in ("request", "announce", "presence") else (camera, viewer)
    earlier = forge.last(bus, sender, kind)
    bus.vanish(viewer)
    again = bus.join("viewer", CAMERA, token=viewer.token)
    bus.run(9)
    sender, receiver = (again, camera) if sender is viewer else (camera, again)
    present = forge.last(bus, sender, kind)
    version, _, one = cbor.decode(earlier)
    _, _, two = cbor.decode(present)
    assert again.can_watch(camera)
    derives, opened = again.token.counts["derive"], len(again.ever_opened)
    for pick in range(1, 7):
        parts = [(two, one)[pick >> n & 1][index] for n, index in enumerate((0, 2, 3))]
        spliced = cbor.encode([version, kind, [parts[0], {}, *parts[1:]]])
        if spliced in (earlier, present):
            # A terminal's beacons have one header.
            continue
        before = len(receiver.refused)
        bus.deliver(receiver, spliced)
        # What names the session before is known to be over, or not for this one.
        reasons = {refused.reason for refused in receiver.refused[before:]}
        assert reasons <= {"signature", "session-ended", "unknown-sender", "nonce-not-outstanding"}, reasons
    bus.run(9)
    assert again.can_watch(camera)
    assert camera.can_watch(again)
    assert again.token.counts["derive"] == derives
    assert len(again.ever_opened) == opened


@pytest.mark.property("P12")
def test_an_announcement_that_is_kept_from_some_is_noticed_and_gives_them_nothing() -> None:
    bus = Bus()
    viewers = [bus.join("one"), bus.join("two")]
    bus.run(2)
    one, two = viewers

    def keep(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        hidden = sender.name == "camera" and receiver is two and kind_of(message) == "announce"
        return [] if hidden else [message]

    bus.interfere = keep
    camera = bus.join("camera", CAMERA)
    bus.run(60)
    assert one.can_watch(camera)
    assert two.ever_opened == []
    assert "unknown-sender" in two.reasons()
    assert "roster-split" in {alarm.reason for alarm in one.alarms}
    bus.interfere = lambda s, r, m: [m]
    bus.run(30)
    assert two.can_watch(camera)


@pytest.mark.property("P4")
def test_a_session_keeps_its_certificate(meeting: Meeting) -> None:
    """Another of the same terminal, in a true next announcement of the session."""
    insider = forge.epoch_of(meeting.insider)
    respelt = cbor.encode(["certificate", "insider", point_of(meeting.insider.token.identity), 2])
    meeting.camera.policy.check_identity = partial(  # type: ignore[method-assign] # it reads three items
        _reads_three, meeting.camera.policy.check_identity
    )
    leaf = hashlib.sha256(respelt).digest()
    payload = replace(insider.announce, leaf=leaf, epoch=2, previous=insider.digest)
    ctx = context("announce", "meeting", Party(leaf, insider.party.session, 2), payload.suites)
    forged = forge.token_sign("announce", payload.encode(), [respelt], meeting.insider, ctx)
    assert meeting.give(meeting.camera, forged) == "identity-mismatch"


def _reads_three(check: Callable[..., CheckedCertificate], chain: list[bytes]) -> CheckedCertificate:
    found = check([cbor.encode(cbor.decode(chain[0])[:3])])
    return replace(found, leaf=hashlib.sha256(chain[0]).digest())


@pytest.mark.property("P4")
def test_a_refuse_in_the_camera_s_name_and_one_of_another_request(meeting: Meeting) -> None:
    """What it is sealed for is public: its signature alone says who refuses."""
    meeting.ask(meeting.viewer)
    camera, viewer = forge.epoch_of(meeting.camera), forge.epoch_of(meeting.viewer)
    feed = meeting.viewer.member._subscriber.feeds[meeting.camera.session]
    assert feed.asked is not None
    ctx = camera.context("refuse", viewer.party, feed.asked.digest)

    def refuse(nonce: bytes) -> bytes:
        inner = Refuse(nonce, "policy").encode()
        return Sealed(
            viewer.digest, sealing.seal(sealing.xwing_public(viewer.sealing.public), inner, ctx)
        ).encode()

    forged = forge.sign("refuse", refuse(feed.asked.nonce), meeting.insider, ctx, claim=camera.digest)
    assert meeting.give(meeting.viewer, forged) == "signature"
    other, _ = camera.sign("refuse", refuse(bytes(16)), ctx)
    assert meeting.give(meeting.viewer, other) == "nonce-not-outstanding"
    assert feed.asked is not None
    assert feed.refused is None
    true, _ = camera.sign("refuse", refuse(feed.asked.nonce), ctx)
    assert meeting.give(meeting.viewer, true) == "refused-by-peer"
