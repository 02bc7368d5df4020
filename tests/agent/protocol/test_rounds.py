"""Rounds: keys change under a running picture, stolen secrets end, and who stays silent is dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, all_watch, kind_of
from agent.protocol.insider import Meeting
from agent.protocol.test_meeting import meeting
from agent.protocol.thief import Thief, memory
from dongled.agent.protocol import cose, limits, sealing
from dongled.agent.protocol.context import context
from dongled.agent.protocol.messages import Announce, Grant, GrantedKey, Keys, NewKey, Rekey, Wrapped
from dongled.agent.protocol.own import OwnEpoch
from dongled.agent.protocol.sealing import XWingKey
from dongled.media.api import StreamContext
from dongled.media.errors import FrameRejected
from dongled.media.frames import FrameOpener, FrameSealer
from dongled.media.keyring import commit_base_key
from support import frames

HEAL = 330.0
LONGEST = limits.ROUND + limits.ROUND_JITTER


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody's round begins 240 s after its announcement, to the moment."""
    monkeypatch.setattr(limits, "ROUND_JITTER", 0.0)


def epoch(terminal: Terminal) -> int:
    return terminal.member.epoch


def until_epoch(bus: Bus, terminal: Terminal, number: int) -> None:
    while epoch(terminal) < number:
        bus.run(0.05)


def slow_tokens(bus: Bus, seconds: float) -> None:
    """Tokens that do one thing at a time."""
    busy: dict[str, float] = {}
    original_sign, original_derive = bus._sign, bus._derive

    def queue(terminal: Terminal, act: Callable[[], None]) -> None:
        done = max(bus.now, busy.get(terminal.name, 0.0)) + seconds
        busy[terminal.name] = done
        bus.at(done - bus.now, act)

    bus.token_latency = 0.0
    bus._sign = lambda t, o, d: queue(t, lambda: original_sign(t, o, d))  # type: ignore[method-assign, assignment] # a slower token
    bus._derive = lambda t, o, p: queue(t, lambda: original_derive(t, o, p))  # type: ignore[method-assign, assignment] # a slower token


# --- what a round costs


@pytest.mark.property("P7")
@pytest.mark.parametrize("viewers", [1, 5])
def test_a_round_is_one_signature_of_the_camera_s_and_one_derive_of_each_viewer_s(viewers: int) -> None:
    bus = Bus()
    camera, watching = meeting(bus, viewers)
    bus.run(1_400)
    rounds = epoch(camera) - 1
    assert rounds == 5
    assert camera.token.counts["derive"] == 0
    beacons = len({m for _, who, m in bus.log if who is camera and kind_of(m) == "presence"})
    assert camera.token.counts["sign"] == 1 + rounds + beacons
    for viewer in watching:
        assert viewer.token.counts["derive"] == 1 + rounds
        assert viewer.can_watch(camera)
    for terminal in bus.terminals:
        assert terminal.reasons() == set()
        assert terminal.alarms == []
        assert terminal.left == []


def test_messages_of_a_round_grow_linearly() -> None:
    sent = {}
    for count in (3, 9):
        bus = Bus()
        members = [bus.join(f"t{n}", CAMERA) for n in range(count)]
        bus.run(20)
        before = [Counter(member.member.counters.sent) for member in members]
        bus.run(LONGEST + limits.RENEW - 20)
        assert [epoch(member) for member in members] == [2] * count
        each = [
            m.member.counters.sent - earlier - Counter(presence=10**6)
            for m, earlier in zip(members, before, strict=True)
        ]
        sent[count] = max(each, key=Counter.total)
        print(f"{count} terminals, one round: {dict(sent[count])}")  # noqa: T201 - a number to know
        assert all_watch(members)
    # An announcement, a rekey said twice, and for each other terminal a request and a grant.
    for count, counts in sent.items():
        assert counts.total() <= 2 * count + 1, counts


def test_rounds_begin_240_to_265_s_apart_and_not_together() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    bus.run(3_000)
    for terminal in (camera, viewer):
        first = {m: at for at, who, m in reversed(bus.log) if who is terminal and kind_of(m) == "announce"}
        times = sorted(first.values())
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) > 8
        assert min(gaps) >= limits.ROUND - 0.1
        assert max(gaps) <= LONGEST + 0.1
        assert max(gaps) - min(gaps) > 5
        announced = [
            Announce.parse(cose.parse(message).payload) for message in sorted(first, key=first.__getitem__)
        ]
        assert [announce.epoch for announce in announced] == list(range(1, len(gaps) + 2))
    assert LONGEST + limits.RENEW + 1 + 4 <= HEAL


# --- theft


@pytest.mark.property("P7")
@pytest.mark.parametrize("victim", ["camera", "viewer0"])
@pytest.mark.parametrize("when", [100.0, 240.5, 299.0])
def test_what_a_thief_of_memory_took_opens_nothing_after_330_s(
    at_once: None, victim: str, when: float
) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    bus.run(when - 4)
    stolen = bus.now
    thief = Thief(camera if victim == "camera" else viewer)
    # Visitors come and go for a while, so that the links are used and the theft is seen to work.
    for number in range(2):
        visitor = bus.join(f"visitor{number}")
        bus.run(10)
        visitor.member.leave(bus.now)
        bus.settle(visitor)
        bus.vanish(visitor)
        bus.run(10)
    bus.run(560)
    opened = thief.rekeys(bus)
    before = {seal.base_key for at, seal in camera.sealed_at if stolen < at < stolen + 30}
    # What is in force at t+330 is exposed too: count from the switch before.
    healed = [seal for at, seal in camera.sealed_at if at > stolen + HEAL]
    healed += [[seal for at, seal in camera.sealed_at if at <= stolen + HEAL][-1]]
    assert len(healed) > 1
    if when < 280:
        assert opened & before, "a thief that opens nothing at all proves nothing"
    assert not opened & {seal.base_key for seal in healed}
    assert not set(thief.signing) & {seal.signing_key for seal in healed}
    if victim == "camera":
        assert thief.requests(bus, 0.0)
    assert thief.requests(bus, stolen + HEAL) == 0
    assert viewer.can_watch(camera)


@pytest.mark.property("P7")
def test_private_keys_of_a_round_go_10_s_after_the_next(at_once: None) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    until_epoch(bus, camera, 2)
    at = bus.now

    def kept(terminal: Terminal, kind: type) -> int:
        return sum(isinstance(thing, kind) for thing in memory(terminal))

    assert kept(camera, XWingKey) == 2
    bus.run(limits.GRACE + 0.01)
    for terminal in (camera, viewer):
        until_epoch(bus, terminal, 2)
    bus.run(at + limits.GRACE + 1.5 - bus.now)
    for terminal in (camera, viewer):
        assert kept(terminal, XWingKey) == 1
        assert kept(terminal, OwnEpoch) == 1
        assert kept(terminal, Ed25519PrivateKey) == 1


@pytest.mark.property("P7")
def test_a_number_forged_with_a_stolen_signing_key_keeps_no_later_rekey_from_being_kept() -> None:
    """A rekey that comes before its grant is kept, the newest alone: none is newer than the thief's."""
    those = Meeting()
    bus, camera, viewer = those.bus, those.camera, those.viewer
    feed, stolen = viewer.member._subscriber.feeds[camera.session], camera.member._state.me

    def forged(key_seq: int) -> bytes:
        key, link = NewKey("camera", 900, bytes(32), bytes(80)), Wrapped(viewer.session, 0, bytes(64))
        payload = Rekey(key_seq, (key,), (link,)).encode()
        me = camera.member._state.me
        return me.sign("rekey", payload, me.context("rekey"))[0]

    those.ask(viewer)
    bus.deliver(viewer, forged(limits.UINT))
    assert feed.waiting is not None
    bus.run(limits.ROUND + limits.ROUND_JITTER + limits.RENEW)
    assert camera.member._state.me is not stolen
    those.ask(viewer)
    bus.deliver(viewer, forged(feed.key_seq + 1))
    assert feed.waiting is not None


@pytest.mark.property("P7")
def test_keys_forged_with_a_stolen_signing_key_end_with_the_round() -> None:
    """A thief answers a request in the camera's name, with numbers that no honest grant reaches."""
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(30)
    stolen = camera.member._state.me
    bus.interfere = lambda s, r, m: [] if s is camera and kind_of(m) == "grant" else [m]
    viewer = bus.join("viewer")
    bus.run(0.3)
    feed, own = viewer.member._subscriber.feeds[camera.session], viewer.member._state.me
    assert feed.asked is not None
    base_key, signer = b"\x07" * 64, stolen.announce.signing
    commit = commit_base_key(base_key, 900, camera.session, signer)
    keys = Keys((GrantedKey("camera", 900, commit, base_key, signer),), bytes(32), 900, bytes(32), 0)
    ctx = context("grant", "meeting", stolen.party, (5,), own.party, feed.asked.digest)
    sealed = sealing.seal_twice(
        sealing.xwing_public(own.sealing.public), viewer.token.data.public_key(), keys.encode(), ctx
    )
    payload = Grant(own.digest, feed.asked.nonce, sealed).encode()
    bus.deliver(viewer, stolen.sign("grant", payload, ctx)[0])
    bus.run(0.1)
    assert 900 in viewer.opens[(camera.session, "camera")]
    bus.interfere = lambda s, r, m: [m]
    bus.run(HEAL)
    assert viewer.can_watch(camera)
    assert 900 not in viewer.opens[(camera.session, "camera")]


@pytest.mark.property("P7")
def test_an_old_announcement_played_again_does_not_make_its_thief_live() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    announcement = forge.last(bus, camera, "announce")
    bus.vanish(camera)
    bus.run(40)
    assert viewer.left[-1][2] == "silent"
    stolen = camera.member._state
    for _ in range(3):
        bus.deliver(viewer, announcement)
        (status,) = viewer.member.peers(bus.now)
        # It welcomes the viewer, and asks in the camera's name with the nonce that it was given.
        remote = viewer.member._state.remotes[camera.session]
        ctx = stolen.me.context("welcome", viewer.member._state.me.party)
        assert not status.live
        with pytest.raises(Exception, match="not-live"):
            remote.prove_by_message(bus.now, bus.now)
        assert ctx
        bus.run(30)
        assert viewer.left[-1][2] == "silent"


# --- nothing is lost


@pytest.mark.property("P7")
def test_no_frame_is_lost_over_rounds_with_joins_among_them() -> None:
    bus = Bus(token_latency=0.15)
    bus.jitter = 0.1
    camera, viewers = meeting(bus, 2)
    watch(bus, camera, viewers, 620, {260: "late", 310: "later"})


def watch(bus: Bus, camera: Terminal, viewers: list[Terminal], seconds: int, joins: dict[int, str]) -> None:
    """Seal ten frames a second for real, and open each of them 50 ms later at every viewer."""
    mine = StreamContext("meeting", camera.session, "camera", "vp8")
    sealer, openers = FrameSealer(mine), {viewer.name: FrameOpener(mine) for viewer in viewers}
    done = {terminal.name: 0 for terminal in bus.terminals}
    kids, signers = set(), set()

    def media(terminal: Terminal) -> None:
        for effect in terminal.effects[done[terminal.name] :]:
            match type(effect).__name__:
                case "SealWith":
                    sealer.use(effect.kid, effect.base_key, effect.signing_key)  # type: ignore[union-attr] # matched
                    kids.add(effect.kid)  # type: ignore[union-attr] # matched
                    signers.add(effect.signing_key)  # type: ignore[union-attr] # matched
                case "OpenWith":
                    openers[terminal.name].install(effect.kid, effect.base_key, effect.verify_key)  # type: ignore[union-attr] # matched
                case "StopOpening":
                    openers[terminal.name].forget(effect.below)  # type: ignore[union-attr] # matched
        done[terminal.name] = len(terminal.effects)

    for terminal in [camera, *viewers]:
        media(terminal)
    lost: Counter[str] = Counter()
    for number in range(seconds * 10):
        if number % 10 == 0 and number // 10 in joins:
            bus.join(joins[number // 10])
        wire = sealer.seal(frames.key_frame() if number % 30 == 0 else frames.delta_frame(b"%d" % number))
        bus.run(0.05)
        for viewer in viewers:
            media(viewer)
            try:
                openers[viewer.name].open(wire)
            except FrameRejected as error:
                lost[error.reason] += 1
        bus.run(0.05)
        media(camera)
    assert lost == Counter()
    assert len(signers) == epoch(camera) >= 3
    assert len(kids) >= epoch(camera) + len(joins) - 1
    assert {reason for t in bus.terminals for reason in t.reasons()} <= {"presence-replayed", "stale-epoch"}


@pytest.mark.property("P7")
@pytest.mark.parametrize("seed", range(2))
def test_rounds_with_loss_drop_nobody(seed: int) -> None:
    bus = Bus(seed)
    members = [bus.join(f"t{n}", CAMERA) for n in range(4)]
    bus.run(5)
    bus.loss, bus.jitter, bus.duplicates = 0.2, 0.3, 0.2
    bus.run(600)
    bus.loss = bus.jitter = bus.duplicates = 0.0
    bus.run(20)
    assert min(epoch(member) for member in members) >= 3
    assert all_watch(members)
    for member in members:
        assert {reason for _, _, reason in member.left} <= {"silent"}
        assert "signature" not in member.reasons()
        assert "commitment" not in member.reasons()
        for peer in member.member.peers(bus.now):
            assert peer.epoch == epoch(next(m for m in members if m.session == peer.peer.session))


@pytest.mark.parametrize("victim", ["announce", "request", "grant", "rekey"])
def test_a_message_of_the_round_that_is_lost_once_costs_no_holder(at_once: None, victim: str) -> None:
    bus = Bus()
    camera, (viewer, other) = meeting(bus, 2)
    bus.run(230)
    lost: list[bytes] = []

    def lose(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        if (
            kind_of(message) == victim
            and {sender.name, receiver.name} == {camera.name, viewer.name}
            and not lost
        ):
            lost.append(message)
            return []
        return [message]

    bus.interfere = lose
    bus.run(85)
    assert lost
    assert (viewer.can_watch(camera), other.can_watch(camera)) == (True, True)
    assert camera.left == viewer.left == []
    assert viewer.token.counts["derive"] == 2


def test_a_rekey_over_the_old_link_does_not_undo_the_request_for_the_new_one(at_once: None) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    until_epoch(bus, camera, 2)

    def delay_requests(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        if kind_of(message) != "request" or sender is not viewer or receiver is not camera:
            return [message]
        bus.join("another")
        bus.at(0.5, lambda: bus.deliver(camera, message))
        return []

    bus.interfere = delay_requests
    while viewer.member.counters.sent["request"] < 2:
        bus.run(0.01)
    bus.interfere = lambda s, r, m: [m]
    bus.run(5)
    assert viewer.can_watch(camera)
    assert viewer.member.counters.sent["request"] == 2
    assert viewer.token.counts["derive"] == 2
    assert viewer.reasons() == set()


@pytest.mark.parametrize(("delay", "taken"), [(1.0, True), (limits.GRACE + 1, False)])
def test_a_beacon_that_its_round_overtook_counts_for_10_s(at_once: None, delay: float, taken: bool) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    begun = camera.member._rounds._begin_at
    bus.run(begun - 1.5 - bus.now)
    camera.member._beacons._next_at = begun - 0.5
    bus.settle(camera)

    def slow(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        if kind_of(message) != "presence" or sender is not camera:
            return [message]
        bus.at(delay, lambda: bus.deliver(receiver, message))
        return []

    bus.interfere = slow
    bus.run(1.4)
    bus.interfere = lambda s, r, m: [m] if taken or s is not camera or kind_of(m) != "presence" else []
    bus.run(delay)
    assert epoch(camera) == 2
    assert ("stale-epoch" in viewer.reasons()) != taken
    (status,) = viewer.member.peers(bus.now)
    assert (status.beacon_age is not None and status.beacon_age < 1.5) == taken


# --- who comes, goes, or stays silent meanwhile


@pytest.mark.property("P7")
def test_who_does_not_ask_again_is_dropped_and_the_rest_see_on(at_once: None) -> None:
    bus = Bus()
    camera, (mute, other) = meeting(bus, 2)
    until_epoch(bus, camera, 2)
    at = bus.now
    bus.interfere = lambda s, r, m: [] if s is mute and kind_of(m) == "request" else [m]
    bus.run(limits.RENEW - 1)
    assert mute.can_watch(camera)
    bus.run(3)
    assert not mute.can_watch(camera)
    assert other.can_watch(camera)
    switched, seal = camera.sealed_at[-1]
    assert at + limits.RENEW <= switched <= at + limits.RENEW + 1
    assert "left-out" in mute.reasons()
    assert seal.base_key not in {key.base_key for key in mute.ever_opened}
    bus.interfere = lambda s, r, m: [m]
    bus.run(15)
    assert mute.can_watch(camera)


@pytest.mark.parametrize("after", [-0.2, -0.1, 0.0, 0.02, 30.0, 59.9])
def test_who_joins_in_a_round_watches_and_keeps_watching(at_once: None, after: float) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    begun = camera.member._rounds._begin_at
    bus.run(begun + after - bus.now)
    late = bus.join("late", CAMERA)
    bus.run(2)
    assert all_watch([camera, late])
    assert viewer.can_watch(camera)
    assert viewer.can_watch(late)
    bus.run(70)
    assert all_watch([camera, late])
    assert viewer.can_watch(camera)
    assert camera.left == late.left == viewer.left == []


@pytest.mark.property("P7")
def test_ten_rounds_at_one_moment_with_slow_tokens(at_once: None) -> None:
    bus = Bus()
    slow_tokens(bus, 0.15)
    members = [bus.join(f"t{n}", CAMERA) for n in range(10)]
    bus.run(5)
    assert all_watch(members)
    for _ in range(2):
        before = {epoch(member) for member in members}
        bus.run(240)
        assert {epoch(member) for member in members} == {number + 1 for number in before}
        bus.run(limits.RENEW + 5)
        assert all_watch(members)
    assert [member.left for member in members] == [[]] * 10
    assert [member.alarms for member in members] == [[]] * 10
    assert [member.token.counts["derive"] for member in members] == [27] * 10


# --- policy


@pytest.mark.property("P3")
def test_a_viewer_whom_policy_refuses_now_is_out_within_a_round() -> None:
    bus = Bus()
    camera, (viewer, other) = meeting(bus, 2)
    camera.policy.deny["view"] = {viewer.name}
    bus.run(LONGEST + limits.RENEW + 1)
    assert "denied-view" in camera.reasons()
    assert not viewer.can_watch(camera)
    assert camera.sealing() not in {key.base_key for key in viewer.ever_opened}
    assert other.can_watch(camera)


@pytest.mark.property("P3")
@pytest.mark.parametrize("rounds", [True, False])
@pytest.mark.parametrize("check", ["identity", "data", "publish"])
def test_a_camera_whom_policy_refuses_now_is_not_shown_beyond_a_round(check: str, rounds: bool) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    if not rounds:
        camera.member._rounds._begin_at = float("inf")
    viewer.policy.deny[check] = {camera.name}
    bus.run(LONGEST + 1)
    assert f"denied-{check}" in viewer.reasons()
    assert viewer.opens[(camera.session, "camera")] == {}
    assert (viewer.left != []) == (check != "publish")
    if not rounds:
        return
    viewer.policy.deny.clear()
    bus.run(LONGEST + limits.RENEW + 10)
    assert viewer.can_watch(camera)


@pytest.mark.property("P3")
@pytest.mark.parametrize("known_again", [True, False])
def test_who_cannot_be_asked_about_has_until_the_end_of_the_round(at_once: None, known_again: bool) -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    camera.member._rounds._begin_at = float("inf")
    bus.run(230)
    viewer.policy.undecided = {camera.name}
    bus.run(60)
    assert viewer.can_watch(camera)
    viewer.policy.undecided = set() if known_again else {camera.name}
    bus.run(15)
    assert viewer.can_watch(camera) == known_again
    assert [reason for _, _, reason in viewer.left] == ([] if known_again else ["refused"])


@pytest.mark.property("P3")
def test_an_announcement_forged_in_a_camera_s_name_does_not_put_it_out() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    viewer.policy.deny["identity"] = {"mallory"}
    mallory = bus.join("mallory", start=False)
    announcement = forge.edit(
        mallory.member._first.certified(bytes(64)),  # type: ignore[union-attr] # it has not started
        lambda fields: fields.update(session=camera.session, epoch=2, previous=bytes(32)),
    )
    bus.deliver(viewer, announcement)
    assert "denied-identity" in viewer.reasons()
    assert viewer.left == []
    bus.run(300)
    assert viewer.can_watch(camera)
