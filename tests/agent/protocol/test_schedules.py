"""Whatever the bus loses, doubles, delays and reorders: once it delivers again, everybody watches."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.bus import CAMERA, Bus, Terminal, all_watch, kind_of

HARMLESS = {
    "nonce-not-outstanding",
    "presence-replayed",
    "request-replayed",
    "key-seq-old",
    "kid-old",
    "link-seal",
    "link-unknown",
    "link-replayed",
    "left-out",
    "not-live",
    "session-ended",
    "stale-epoch",
    "superseded",
    "unknown-sender",
}


def invariants(bus: Bus) -> None:
    everybody = bus.terminals
    for sender in everybody:
        kids = [seal.kid for seals in sender.seals.values() for seal in seals]
        assert len(set(kids)) == len(kids), "a KID was used twice"
        sealed = {seal.kid: seal.base_key for seals in sender.seals.values() for seal in seals}
        for receiver in everybody:
            for opened in receiver.ever_opened:
                if opened.session == sender.session and opened.kid in sealed:
                    assert opened.base_key == sealed[opened.kid]
    for terminal in everybody:
        assert terminal.reasons() <= HARMLESS, terminal.reasons() - HARMLESS
        assert "equivocation" not in {alarm.reason for alarm in terminal.alarms}


@pytest.mark.property("P11")
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.3),
    duplicates=st.floats(0, 0.5),
    jitter=st.floats(0, 3),
    moves=st.lists(st.sampled_from(["join", "leave", "vanish", "restart", "sfu", "wait"]), max_size=8),
)
@settings(max_examples=25, deadline=None)
def test_any_schedule_converges_once_the_bus_is_fair(
    seed: int, loss: float, duplicates: float, jitter: float, moves: list[str]
) -> None:
    bus, rng = Bus(seed), random.Random(seed)
    bus.loss, bus.duplicates, bus.jitter = loss, duplicates, jitter
    here: list[Terminal] = [bus.join(f"t{n}", CAMERA) for n in range(3)]
    gone: list[Terminal] = []
    for number, move in enumerate(moves):
        bus.run(rng.random() * 4)
        if move == "join" or len(here) < 2:
            here.append(bus.join(f"n{number}", CAMERA))
            continue
        one = rng.choice(here)
        if move == "leave":
            one.member.leave(bus.now)
            bus.settle(one)
        if move in ("vanish", "restart"):
            bus.vanish(one)
        if move == "sfu":
            for other in here:
                other.member.source_left(one.source, bus.now)
                bus.settle(other)
        if move in ("leave", "vanish", "restart"):
            here.remove(one)
            gone.append(one)
        if move == "restart":
            here.append(bus.join(one.name, CAMERA, token=one.token))
    bus.loss = bus.duplicates = bus.jitter = 0.0
    bus.run(45)
    assert all_watch(here)
    for sender in here:
        newest = sender.sealing()
        for leaver in gone:
            assert newest not in {key.base_key for key in leaver.ever_opened}
        assert {peer.peer.session for peer in sender.member.peers(bus.now)} == {
            other.session for other in here if other is not sender
        }
    invariants(bus)


@pytest.mark.parametrize("seed", range(4))
def test_a_lost_message_of_any_kind_is_made_good_within_seconds(seed: int) -> None:
    bus = Bus(seed)
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    bus.loss = 0.25
    viewers = [bus.join(f"viewer{n}") for n in range(4)]
    bus.run(6)
    bus.loss = 0.0
    bus.run(10)
    assert all(viewer.can_watch(camera) for viewer in viewers)
    invariants(bus)


@pytest.mark.parametrize("victim", ["announce", "welcome", "request", "grant", "rekey", "presence"])
def test_the_loss_of_the_first_of_each_kind_costs_a_beacon_at_most(victim: str) -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(2)
    first = bus.join("first")
    bus.run(2)
    lost: set[str] = set()

    def lose(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        kind, key = kind_of(message), sender.name + receiver.name
        if kind == victim and key not in lost:
            lost.add(key)
            return []
        return [message]

    bus.interfere = lose
    late = bus.join("late")
    bus.run(9.5)
    assert lost
    assert late.can_watch(camera)
    assert first.can_watch(camera)
    derives = late.token.counts["derive"]
    bus.run(60)
    assert late.token.counts["derive"] == derives
    assert derives <= 2


def test_reordering_alone_loses_no_key() -> None:
    """Jitter of half a second: rekeys overtake grants, welcomes overtake announcements."""
    for seed in range(6):
        bus = Bus(seed)
        bus.jitter = 0.4
        members = []
        for n in range(5):
            members.append(bus.join(f"t{n}", CAMERA))
            bus.run(0.3)
        bus.run(10)
        assert all_watch(members)
        invariants(bus)


@pytest.mark.property("P6")
def test_a_storm_of_joins_and_leaves_ends_with_one_way_video_for_nobody() -> None:
    bus, rng = Bus(23), random.Random(23)
    bus.loss, bus.jitter = 0.05, 0.2
    camera = bus.join("camera", CAMERA)
    here: list[Terminal] = []
    for n in range(60):
        if len(here) > 4 or (here and rng.random() < 0.4):
            leaver = here.pop(rng.randrange(len(here)))
            leaver.member.leave(bus.now)
            bus.settle(leaver)
            bus.vanish(leaver)
        else:
            here.append(bus.join(f"v{n}"))
        bus.run(rng.random() * 1.5)
    bus.loss = bus.jitter = 0.0
    bus.run(40)
    assert here
    assert all(viewer.can_watch(camera) for viewer in here)
    invariants(bus)


def test_a_rekey_that_overtakes_its_grant_waits_for_it() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    viewer = bus.join("viewer")

    def delay_the_grant(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        if kind_of(message) != "grant" or receiver is not viewer:
            return [message]
        bus.at(0.55, lambda: bus.deliver(viewer, message))
        return []

    bus.interfere = delay_the_grant
    bus.run(0.1)
    bus.join("another")
    bus.run(0.9)
    assert viewer.can_watch(camera)
    assert {key.kid for key in viewer.ever_opened} >= {camera.seals["camera"][-1].kid}
    assert viewer.member.counters.sent["request"] == 1
    assert viewer.token.counts["derive"] == 1


def test_a_lost_rekey_costs_one_request_and_no_derive() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)
    viewer = bus.join("viewer")
    bus.run(2)
    bus.interfere = lambda s, r, m: [] if kind_of(m) == "rekey" and r is viewer else [m]
    bus.join("another")
    bus.run(2)
    bus.interfere = lambda s, r, m: [m]
    assert not viewer.can_watch(camera)
    bus.run(20)
    assert viewer.can_watch(camera)
    assert viewer.member.counters.sent["request"] == 2
    assert viewer.token.counts["derive"] == 1


def test_a_welcome_that_overtakes_its_announcement_is_kept() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(1)

    def delay_announcements(sender: Terminal, receiver: Terminal, message: bytes) -> list[bytes]:
        if sender is not camera or kind_of(message) != "announce":
            return [message]
        bus.at(0.2, lambda: bus.deliver(receiver, message))
        return []

    bus.interfere = delay_announcements
    viewer = bus.join("viewer")
    bus.run(0.26)
    assert viewer.can_watch(camera)
    assert sum(kind_of(m) == "welcome" for _, who, m in bus.log if who is camera) == 1


def test_two_that_arrive_together_wait_for_nothing() -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    bus.run(2)
    first = bus.join("first")
    bus.run(0.1)
    second = bus.join("second")
    bus.run(0.7)
    assert first.can_watch(camera)
    assert second.can_watch(camera)
