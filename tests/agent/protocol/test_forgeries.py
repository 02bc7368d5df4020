"""An insider speaks in another's name, a publisher cheats: each is refused, and the honest rest see on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from agent.protocol import forge
from agent.protocol.bus import Terminal, kind_of, point_of
from agent.protocol.insider import Meeting, forged_request
from dongled.agent.policy.api import CheckedCertificate
from dongled.agent.protocol import cbor, sealing
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.messages import Grant, GrantedKey, Keys, Refuse, Sealed
from dongled.media.keyring import commit_base_key


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


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


@pytest.mark.property("P8")
def test_a_picture_that_was_stopped_so_does_not_come_back_with_the_next_grant(meeting: Meeting) -> None:
    position = meeting.camera.member._publisher._positions
    (at,) = position.values()
    position["camera"] = type(at)(at.stream, at.kid, at.ctr, bytes(32))
    meeting.bus.run(8)
    opened = len(meeting.viewer.ever_opened)
    meeting.bus.run(60)
    assert len(meeting.viewer.ever_opened) == opened
    assert not meeting.viewer.can_watch(meeting.camera)


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
