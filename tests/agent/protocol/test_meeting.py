"""Meetings that go well: who comes gets keys, who goes loses them, and in time."""

from __future__ import annotations

from typing import Any

import pytest

from agent.protocol.bus import CAMERA, Bus, Terminal, all_watch, kind_of
from dongled.agent.errors import AgentError
from dongled.agent.protocol.api import Broadcast, SealWith, Stream
from dongled.agent.protocol.cose import TOKEN_SIGNED


def meeting(bus: Bus, viewers: int = 1) -> tuple[Terminal, list[Terminal]]:
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    watching = [bus.join(f"viewer{n}") for n in range(viewers)]
    bus.run(3)
    assert all(viewer.can_watch(camera) for viewer in watching)
    return camera, watching


def test_the_first_viewer_has_the_key_at_once() -> None:
    bus = Bus(token_latency=0.15)
    camera = bus.join("camera", CAMERA)
    bus.run(2)
    viewer = bus.join("viewer")
    # Two token operations of 150 ms (announce, derive) and four messages of 2 ms.
    bus.run(0.32)
    assert viewer.can_watch(camera)
    assert camera.reasons() == viewer.reasons() == set()
    opened = viewer.ever_opened[-1]
    assert opened.stream == CAMERA[0]
    assert (opened.session, opened.suite, len(opened.base_key)) == (camera.session, 5, 64)


@pytest.mark.parametrize("count", [2, 5, 10])
def test_all_publish_and_all_watch(count: int) -> None:
    bus = Bus()
    members = [bus.join(f"t{n}", CAMERA) for n in range(count)]
    bus.run(5)
    assert all_watch(members)
    bus.run(40)
    assert all_watch(members)
    assert [member.reasons() for member in members] == [set()] * count
    assert [member.alarms for member in members] == [[]] * count
    for member in members:
        assert len(member.member.peers(bus.now)) == count - 1
        assert all(
            p.live and p.same_roster and p.granted == ("camera",) for p in member.member.peers(bus.now)
        )


def test_messages_of_a_terminal_grow_linearly_when_all_arrive_at_once() -> None:
    sent = {}
    for count in (4, 12):
        bus = Bus(token_latency=0.15)
        members = [bus.join(f"t{n}", CAMERA) for n in range(count)]
        bus.run(6)
        assert all_watch(members)
        sent[count] = max(sum(member.member.counters.sent.values()) for member in members)
    # Announce and beacon, and for each other terminal a welcome, a request, a grant and at most a rekey.
    assert all(number <= 4 * count + 4 for count, number in sent.items()), sent


@pytest.mark.property("P5")
def test_a_newcomer_gets_nothing_that_was_sealed_before() -> None:
    bus = Bus()
    camera, _ = meeting(bus, 2)
    before = {seal.kid for seal in camera.seals["camera"]}
    late = bus.join("late")
    bus.run(3)
    assert late.can_watch(camera)
    assert {key.kid for key in late.ever_opened}.isdisjoint(before)


@pytest.mark.property("P5")
def test_every_generation_is_fresh_and_random() -> None:
    bus = Bus()
    camera, _ = meeting(bus, 3)
    keys = [seal.base_key for seal in camera.seals["camera"]]
    assert len(set(keys)) == len(keys)
    kids = [seal.kid for seal in camera.seals["camera"]]
    assert kids == sorted(set(kids))


@pytest.mark.property("P6")
def test_who_leaves_is_blind_within_two_seconds_and_the_rest_see_on() -> None:
    bus = Bus(token_latency=0.15)
    camera, (leaver, stays) = meeting(bus, 2)
    at, held = bus.now, [key.base_key for key in leaver.ever_opened]
    leaver.member.leave(bus.now)
    bus.settle(leaver)
    assert leaver.opens[(camera.session, "camera")] == {}
    bus.run(2)
    switched, seal = camera.sealed_at[-1]
    assert at < switched <= at + 1.0
    assert seal.base_key not in held
    assert stays.can_watch(camera)
    # It still listens, and gets nothing.
    leaver.member.tick(bus.now)
    assert leaver.member.next_tick() is None
    assert seal.base_key not in [key.base_key for key in leaver.ever_opened]
    assert camera.left[-1][2] == "leave"


@pytest.mark.property("P6")
@pytest.mark.parametrize("wait", [0.0, 2.5, 5.0, 6.9])
def test_a_silent_departure_is_over_in_27_seconds(wait: float) -> None:
    bus = Bus()
    camera, (dead, stays) = meeting(bus, 2)
    bus.run(20 + wait)
    assert {peer.live for peer in camera.member.peers(bus.now)} == {True}
    bus.vanish(dead)
    at, last = bus.now, camera.seals["camera"][-1]
    bus.run(27)
    switched, seal = camera.sealed_at[-1]
    assert seal is not last
    assert switched - at <= 27
    assert switched - at > 15, "given up although its beacons were fresh"
    assert stays.can_watch(camera)
    assert not dead.can_watch(camera)
    assert [reason for _, session, reason in camera.left if session == dead.session] == ["silent"]


@pytest.mark.property("P6")
def test_the_sfu_s_word_removes_at_once() -> None:
    bus = Bus()
    camera, (gone, stays) = meeting(bus, 2)
    bus.vanish(gone)
    at = bus.now
    camera.member.source_left(gone.source, bus.now)
    bus.settle(camera)
    bus.run(2)
    assert camera.sealed_at[-1][0] - at <= 1.0
    assert not gone.can_watch(camera)
    assert stays.can_watch(camera)
    assert camera.left[-1][1:] == (gone.session, "sfu")


def test_the_sfu_s_lie_is_mended() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    camera.member.source_left(viewer.source, bus.now)
    bus.settle(camera)
    bus.run(20)
    assert viewer.can_watch(camera)


def test_changes_within_half_a_second_share_a_generation() -> None:
    bus = Bus()
    camera, viewers = meeting(bus, 6)
    before = len(camera.seals["camera"])
    for viewer in viewers[:5]:
        viewer.member.leave(bus.now)
        bus.settle(viewer)
        bus.run(0.05)
    bus.run(2)
    assert len(camera.seals["camera"]) - before == 2
    assert viewers[5].can_watch(camera)


@pytest.mark.property("P6")
def test_receivers_have_the_key_before_the_switch_and_drop_the_old_one_after() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    bus.join("another")
    bus.run(3)
    opened = {effect.kid: n for n, effect in enumerate(viewer.ever_opened)}
    for at, seal in camera.sealed_at[-1:]:
        assert seal.kid in opened
        rekeys = {m: t for t, who, m in reversed(bus.log) if who is camera and kind_of(m) == "rekey"}
        assert 0 < at - next(iter(rekeys.values())) <= 1.0
    bus.run(3)
    assert list(viewer.opens[(camera.session, "camera")]) == [camera.seals["camera"][-1].kid]


def test_one_request_covers_all_streams_and_each_viewer_gets_what_it_may_have() -> None:
    bus = Bus()
    camera = bus.join("camera", [Stream("front", "vp8"), Stream("back", "vp8")])
    camera.policy.deny["view-back"] = {"guest"}
    bus.run(1)
    guest, guard = bus.join("guest"), bus.join("guard")
    bus.run(3)
    assert guard.can_watch(camera, "front")
    assert guard.can_watch(camera, "back")
    assert guest.can_watch(camera, "front")
    bus.join("another")
    bus.run(3)
    assert guest.can_watch(camera, "front")
    assert guard.can_watch(camera, "back")
    back = {seal.base_key for seal in camera.seals["back"]}
    assert back.isdisjoint({key.base_key for key in guest.ever_opened})
    assert guard.token.counts["derive"] == 1


def test_only_wanted_streams_are_asked_for() -> None:
    bus = Bus()
    camera = bus.join("camera", [Stream("front", "vp8"), Stream("back", "vp8")])
    viewer = bus.join("viewer", want=lambda peer, stream: stream.id == "back")
    bystander = bus.join("bystander", want=lambda peer, stream: False)
    bus.run(3)
    assert viewer.can_watch(camera, "back")
    assert {key.stream.id for key in viewer.ever_opened} == {"back"}
    assert bystander.ever_opened == []
    assert bystander.token.counts["derive"] == 0


def test_token_operations_of_a_camera_do_not_depend_on_its_viewers() -> None:
    signs = {}
    for viewers in (1, 12):
        bus = Bus(seed=7)
        camera, watching = meeting(bus, viewers)
        bus.run(60)
        signs[viewers] = camera.token.counts["sign"]
        assert camera.token.counts["derive"] == 0
        assert [viewer.token.counts["derive"] for viewer in watching] == [1] * viewers
    assert abs(signs[1] - signs[12]) <= 1, "one announcement, and a beacon in 7 s"


def test_the_frame_signing_key_is_the_announced_epoch_key() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    bus = Bus()
    camera, (viewer,) = meeting(bus)
    seal = camera.seals["camera"][-1]
    public = Ed25519PrivateKey.from_private_bytes(seal.signing_key).public_key().public_bytes_raw()
    assert viewer.ever_opened[-1].verify_key == public


def test_suite_4_has_its_own_key_size() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA, suite=4)
    viewer = bus.join("viewer")
    bus.run(3)
    assert viewer.can_watch(camera)
    assert (viewer.ever_opened[0].suite, len(viewer.ever_opened[0].base_key)) == (4, 32)


def test_a_restarted_terminal_replaces_its_old_session() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    bus.vanish(viewer)
    again = bus.join(viewer.name, token=viewer.token)
    bus.run(3)
    assert again.can_watch(camera)
    assert not viewer.can_watch(camera)
    assert camera.left[-1][1:] == (viewer.session, "superseded")
    assert [peer.peer.session for peer in camera.member.peers(bus.now)] == [again.session]
    bus.run(60)
    assert camera.alarms == []


@pytest.mark.property("P12")
def test_two_live_sessions_of_one_certificate_are_both_refused() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    twin = bus.join(viewer.name, token=viewer.token)
    bus.run(45)
    assert "doubled-certificate" in {alarm.reason for alarm in camera.alarms}
    assert camera.member.peers(bus.now) == []
    assert not twin.can_watch(camera)
    assert not viewer.can_watch(camera)
    assert "own-certificate" in viewer.reasons()


@pytest.mark.property("P12")
def test_a_split_roster_raises_one_alarm() -> None:
    bus = Bus()
    camera, (one, two) = meeting(bus, 2)
    bus.run(10)
    # The bus keeps these two from each other, and lets both talk to the camera.
    bus.interfere = lambda s, r, m: [] if {s.name, r.name} == {one.name, two.name} else [m]
    bus.run(100)
    assert [alarm.reason for alarm in camera.alarms].count("roster-split") <= 2
    assert "roster-split" in {alarm.reason for alarm in one.alarms} & {alarm.reason for alarm in two.alarms}


def test_a_token_that_is_away_for_a_while() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    viewer = bus.join("viewer", start=False)
    viewer.token_works = False
    viewer.member.start(bus.now)
    bus.settle(viewer)
    bus.run(3)
    assert camera.joined == []
    viewer.token_works = True
    bus.run(3)
    assert viewer.can_watch(camera)


def test_a_derive_that_failed_is_asked_for_again() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    viewer = bus.join("viewer")
    bus.run(0.0105)
    viewer.token_works = False
    bus.run(1)
    assert not viewer.can_watch(camera)
    viewer.token_works = True
    bus.run(8)
    assert viewer.can_watch(camera)


def test_a_partition_heals() -> None:
    bus = Bus()
    camera, (viewer, other) = meeting(bus, 2)
    bus.interfere = lambda s, r, m: [] if viewer in (s, r) else [m]
    bus.run(60)
    assert not viewer.can_watch(camera)
    assert other.can_watch(camera)
    bus.interfere = lambda s, r, m: [m]
    bus.run(25)
    assert viewer.can_watch(camera)
    assert all(status.live for status in camera.member.peers(bus.now))


def test_stale_shows_when_the_picture_lags_behind_the_beacon() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    kid = camera.member.generation("camera")
    assert kid is not None
    for ctr in range(1, 60):
        camera.member.stream_position("camera", kid, ctr * 30)
        if ctr < 30:
            viewer.member.opened_position(camera.session, "camera", kid, ctr * 30)
        bus.run(1)
        (status,) = viewer.member.peers(bus.now)
        if 10 < ctr < 30:
            assert not status.feeds[0].stale
    assert status.feeds[0].stale
    assert status.feeds[0].kid == status.feeds[0].announced_kid == kid


def test_no_effect_and_no_state_shows_a_key() -> None:
    bus = Bus()
    camera, (viewer, _) = meeting(bus, 2)
    secrets = [seal.base_key for seal in camera.seals["camera"]]
    secrets += [seal.signing_key for seal in camera.seals["camera"]]
    shown = "".join(repr(e) for t in bus.terminals for e in t.effects if not isinstance(e, Broadcast))
    shown += repr(camera.member._publisher.__dict__) + repr(viewer.member._subscriber.__dict__)
    shown += repr(camera.member.__dict__) + repr(camera.member._state.__dict__)
    assert any(isinstance(effect, SealWith) for effect in camera.effects)
    for secret in secrets:
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


def test_only_announcements_and_beacons_need_the_token() -> None:
    bus = Bus()
    camera, _ = meeting(bus, 4)
    bus.run(30)
    token_signed = [m for _, who, m in bus.log if who is camera and kind_of(m) in TOKEN_SIGNED]
    assert len(set(token_signed)) == camera.token.counts["sign"]


@pytest.mark.parametrize(
    "how",
    [
        {"meeting": ""},
        {"meeting": "m" * 256},
        {"suite": 3},
        {"data_chain": [b"c"] * 5},
        {"data_chain": [b"c" * 8193]},
        {"streams": [Stream("same", "vp8")] * 2},
        {"streams": [Stream("Camera", "vp8")]},
        {"streams": [Stream("a" * 33, "vp8")]},
        {"streams": [Stream("camera\n", "vp8")]},
        {"streams": [Stream(f"s{n}", "vp8") for n in range(9)]},
    ],
)
def test_what_others_would_refuse_is_not_announced(how: dict[str, Any]) -> None:
    with pytest.raises(AgentError) as caught:
        Bus().join("camera", **how)
    assert caught.value.reason == "not-announceable"
    assert caught.value.hint


def test_nothing_is_sealed_while_nobody_may_watch() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(20)
    assert camera.sealing() is None
    viewer = bus.join("viewer")
    bus.run(3)
    first = camera.sealing()
    assert first is not None
    assert viewer.can_watch(camera)
    viewer.member.leave(bus.now)
    bus.settle(viewer)
    bus.run(1)
    assert camera.sealing() is None
    again = bus.join("again")
    bus.run(3)
    assert again.can_watch(camera)
    assert camera.sealing() != first


def test_a_rekey_that_was_lost_once_freezes_nobody() -> None:
    bus = Bus()
    camera, (viewer,) = meeting(bus)
    lost: list[bytes] = []

    def lose(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        if receiver is viewer and kind_of(message) == "rekey" and message not in lost:
            lost.append(message)
            return []
        return [message]

    bus.interfere = lose
    bus.join("another")
    bus.run(0.5)
    # The switch and the rekey said again come together, long before the next beacon.
    assert len(lost) == 1
    assert viewer.can_watch(camera)
    assert viewer.token.counts["derive"] == 1
