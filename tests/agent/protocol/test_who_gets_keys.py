"""Who was refused, is gone or was never alive gets no key, and nobody asks for what may not be shown."""

from __future__ import annotations

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus
from agent.protocol.insider import Meeting
from dongled.agent.policy.api import CheckedCertificate, PolicyRefused, Presented
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Stream


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


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


@pytest.mark.property("P6")
@pytest.mark.parametrize("then", [("camera",), ("camera", "third"), ("third",)])
def test_who_asks_for_other_streams_than_before_keeps_no_key_of_the_rest(then: tuple[str, ...]) -> None:
    """It still has what it does not ask for any more: so the rest is not sealed with that, nor told to it."""
    bus = Bus()
    streams = [*CAMERA, Stream("vault", "vp8"), Stream("third", "vp8")]
    camera = bus.join("camera", streams)
    wanted = {"camera", "vault"}
    insider = bus.join("insider", want=lambda peer, stream: stream.id in wanted)
    viewer = bus.join("viewer")
    bus.run(3)
    assert insider.can_watch(camera, "vault")
    wanted = set(then)
    # As after its own policy has learned something.
    insider.member.rejudge(bus.now)
    feed = insider.member._subscriber.feeds[camera.session]
    feed.missing, feed.ask_at = True, 0.0
    camera.policy.deny["view-vault"] = {"insider"}
    insider.member.tick(bus.now)
    bus.settle(insider)
    bus.run(2)
    known = {key.base_key for key in insider.ever_opened}
    assert camera.sealing("vault") not in known
    assert viewer.can_watch(camera, "vault")
    assert all(insider.can_watch(camera, stream) for stream in then)
    camera.member.rejudge(bus.now)
    bus.settle(camera)
    bus.run(2)
    assert camera.sealing("vault") not in {key.base_key for key in insider.ever_opened}


@pytest.mark.property("P6")
def test_who_may_have_less_by_its_new_request_keeps_no_key_that_it_had_by_the_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old one is judged when the rekey is made, the new one a moment later."""
    bus = Bus()
    streams = [*CAMERA, Stream("vault", "vp8"), Stream("third", "vp8")]
    camera = bus.join("camera", streams)
    wanted = {"camera", "vault"}
    insider = bus.join("insider", want=lambda peer, stream: stream.id in wanted)
    viewer = bus.join("viewer")
    bus.run(3)
    wanted.add("third")
    insider.member.rejudge(bus.now)
    feed = insider.member._subscriber.feeds[camera.session]
    feed.ask_at = 0.0
    insider.member.tick(bus.now)
    bus.settle(insider)
    # The keys have just been made anew, so this change waits for others.
    camera.member._publisher._rotated_at = bus.now
    bus.run(0.1)
    assert insider.session in camera.member._publisher._asking
    judge = camera.policy.may_view

    def by_question(identity: CheckedCertificate, stream: str, presented: Presented) -> str:
        if (identity.subject, stream, len(presented.streams)) == ("insider", "vault", 3):
            raise PolicyRefused("denied-question", "not together with these")
        return judge(identity, stream, presented)

    monkeypatch.setattr(camera.policy, "may_view", by_question)
    bus.run(2)
    assert camera.sealing("vault") not in {key.base_key for key in insider.ever_opened}
    assert insider.can_watch(camera, "third")
    assert viewer.can_watch(camera, "vault")


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


@pytest.mark.property("P13")
def test_a_grant_is_not_given_to_who_is_no_longer_live() -> None:
    meeting = Meeting()
    request = meeting.ask(meeting.viewer)
    remote = meeting.camera.member._state.remotes[meeting.viewer.session]
    remote.first_seen, remote.live_until = meeting.bus.now - 100, meeting.bus.now - 1
    assert meeting.give(meeting.camera, request) == "not-live"


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
