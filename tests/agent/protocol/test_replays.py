"""What was said before, elsewhere, or was kept back, is said again, and parts of it are put together anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from agent.protocol.insider import KINDS, Meeting, forged_request
from dongled.agent.protocol import cbor
from dongled.agent.protocol.context import Party, context


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


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


@pytest.mark.property("P11")
def test_a_nonce_older_than_25_seconds_is_refused(meeting: Meeting) -> None:
    old = cbor.decode(cbor.decode(forge.last(meeting.bus, meeting.camera, "presence"))[2][2])["nonce"]
    meeting.bus.run(26)
    request = forged_request(meeting, None, forge.party_of(meeting.insider), echo=old)
    assert meeting.give(meeting.camera, request) == "nonce-not-outstanding"


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
