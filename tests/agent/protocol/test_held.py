"""Requests that the policy cannot judge at once: kept within limits, then granted or refused."""

from __future__ import annotations

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Evidence, EvidenceWanted, Judged, Peer, Stream

pytestmark = pytest.mark.property("P3")


def verdicts(terminal: Terminal) -> list[tuple[str, str, str]]:
    return [
        (effect.verdict, effect.peer.subject, effect.reason)
        for effect in terminal.effects
        if isinstance(effect, Judged)
    ]


def of_camera(peer: Peer, stream: Stream) -> bool:
    return peer.subject == "camera"


def sent(bus: Bus, who: Terminal, kind: str) -> int:
    return sum(sender is who and kind_of(message) == kind for _, sender, message in bus.log)


class Meeting:
    """A camera that has to think about its viewer."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.camera = self.bus.join("camera", CAMERA)
        self.camera.policy.thinking = {"viewer"}
        self.viewer = self.bus.join("viewer")
        self.shown: list[EvidenceWanted] = []
        self.viewer.show = self.show

    def show(self, wanted: EvidenceWanted) -> Evidence:
        self.shown.append(wanted)
        return Evidence()

    def decide(self, *refused: str) -> None:
        self.camera.policy.thinking = set()
        self.camera.policy.deny["view"] = set(refused)
        self.camera.member.rejudge(self.bus.now)
        self.bus.settle(self.camera)


def test_granted_as_soon_as_it_is_decided() -> None:
    meeting = Meeting()
    meeting.bus.run(40)
    assert not meeting.viewer.can_watch(meeting.camera)
    # It was told, and neither asks again nor has anybody touch an authenticator again.
    assert sent(meeting.bus, meeting.viewer, "request") == len(meeting.shown) == 1
    assert meeting.viewer.reasons() == {"pending"}
    meeting.decide()
    meeting.bus.run(1)
    assert meeting.viewer.can_watch(meeting.camera)
    assert verdicts(meeting.camera) == [("held", "viewer", "pending"), ("granted", "viewer", "")]


def test_refused_as_soon_as_it_is_decided() -> None:
    meeting = Meeting()
    meeting.bus.run(40)
    meeting.decide("viewer")
    meeting.bus.run(20)
    assert meeting.viewer.ever_opened == []
    assert [v for v, _, _ in verdicts(meeting.camera)] == ["held", "refused"]
    assert "refused-by-peer" in meeting.viewer.reasons()


def test_it_waits_as_long_as_it_takes_with_few_words() -> None:
    meeting = Meeting()
    meeting.bus.run(600)
    assert meeting.viewer.ever_opened == []
    assert 8 <= len(meeting.shown) <= 14
    assert sent(meeting.bus, meeting.camera, "refuse") <= 2 * len(meeting.shown)
    meeting.decide()
    meeting.bus.run(1)
    assert meeting.viewer.can_watch(meeting.camera)


def test_a_lost_word_costs_nothing_but_time() -> None:
    meeting = Meeting()
    meeting.bus.interfere = lambda s, r, m: [] if kind_of(m) == "refuse" else [m]
    meeting.bus.run(9)
    assert sent(meeting.bus, meeting.viewer, "request") > 3
    assert len(meeting.shown) == 1
    meeting.decide()
    meeting.bus.run(1)
    assert meeting.viewer.can_watch(meeting.camera)


def test_what_waited_beyond_its_keys_is_asked_anew() -> None:
    """The viewer's round ends while it waits: nothing is sealed to keys that are gone."""
    meeting = Meeting()
    meeting.bus.run(3)
    meeting.viewer.member._rounds._begin(meeting.bus.now)
    meeting.bus.settle(meeting.viewer)
    meeting.bus.run(15)
    assert len(meeting.shown) == 2
    meeting.decide()
    meeting.bus.run(1)
    assert meeting.viewer.can_watch(meeting.camera)


def test_who_left_or_fell_silent_is_granted_nothing_when_it_is_decided() -> None:
    for how in ("leave", "vanish"):
        meeting = Meeting()
        meeting.bus.run(3)
        if how == "leave":
            meeting.viewer.member.leave(meeting.bus.now)
            meeting.bus.settle(meeting.viewer)
        else:
            meeting.bus.vanish(meeting.viewer)
        meeting.bus.run(30)
        meeting.decide()
        meeting.bus.run(1)
        assert [v for v, _, _ in verdicts(meeting.camera)] == ["held"]
        assert sent(meeting.bus, meeting.camera, "grant") == 0


def test_only_so_many_wait_and_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_REQUESTS", 3)
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    names = [f"viewer-{n}" for n in range(5)]
    camera.policy.thinking = set(names)
    viewers = [bus.join(name, want=lambda peer, stream: peer.subject == "camera") for name in names]
    bus.run(20)
    assert len(camera.member._publisher._held._held) == limits.HELD_REQUESTS
    assert [v for v, _, _ in verdicts(camera)].count("held") == limits.HELD_REQUESTS
    assert "requests-full" in camera.reasons()
    camera.policy.thinking = set()
    bus.run(60)
    assert all(viewer.can_watch(camera) for viewer in viewers)


@pytest.mark.property("P6")
@pytest.mark.parametrize("timer", ["late", "in time"])
def test_one_too_many_to_wait_does_not_keep_the_stream_under_its_old_key(
    monkeypatch: pytest.MonkeyPatch, timer: str
) -> None:
    """Allowed when it asked, undecided when the next keys are made because somebody left."""
    monkeypatch.setattr(limits, "HELD_REQUESTS", 1)
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    camera.policy.thinking = {"waiting"}
    leaver, stayer, waiting = (bus.join(name, want=of_camera) for name in ("leaver", "stayer", "waiting"))
    bus.run(5)
    assert leaver.can_watch(camera)
    assert stayer.can_watch(camera)
    latecomer = bus.join("latecomer", want=of_camera)
    for _ in range(1000):
        # The keys have just been made anew, so this change waits for others.
        camera.member._publisher._rotated_at = bus.now
        bus.run(0.001)
        if latecomer.session in camera.member._publisher._asking:
            break
    camera.policy.thinking = {"waiting", "latecomer"}
    if timer == "late":
        # What ends the waiting is that somebody leaves.
        camera.member._publisher._rotate_at = bus.now
    leaver.member.leave(bus.now)
    bus.settle(leaver)
    bus.run(2)
    assert camera.sealing() not in {key.base_key for key in leaver.ever_opened}
    assert stayer.can_watch(camera)
    assert leaver.session in {session for _, session, _ in camera.left}
    assert "requests-full" in camera.reasons()
    assert latecomer.ever_opened == waiting.ever_opened == []


def test_a_request_that_waits_is_no_second_one_when_it_is_played_again() -> None:
    meeting = Meeting()
    meeting.bus.run(3)
    request = forge.last(meeting.bus, meeting.viewer, "request")
    asked = len(meeting.camera.policy.presented)
    for _ in range(20):
        meeting.bus.deliver(meeting.camera, request)
    assert len(meeting.camera.policy.presented) == asked
    meeting.decide()
    meeting.bus.run(1)
    grants = sent(meeting.bus, meeting.camera, "grant")
    meeting.bus.deliver(meeting.camera, request)
    meeting.bus.run(1)
    assert sent(meeting.bus, meeting.camera, "grant") <= grants + 1
    assert meeting.viewer.can_watch(meeting.camera)


def test_what_was_granted_is_withdrawn_within_2_s_of_another_verdict() -> None:
    meeting = Meeting()
    meeting.bus.run(3)
    meeting.decide()
    meeting.bus.run(1)
    assert meeting.viewer.can_watch(meeting.camera)
    meeting.decide("viewer")
    meeting.bus.run(2)
    assert not meeting.viewer.can_watch(meeting.camera)
    assert verdicts(meeting.camera)[-1] == ("withdrawn", "viewer", "denied-view")
