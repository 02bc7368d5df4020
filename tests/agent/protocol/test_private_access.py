"""Private sessions: who may not see or show, does not or no longer, is shown nothing from then on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent.protocol.bus import kind_of
from agent.protocol.private import BADGE, Meeting, of
from dongled.agent.protocol.api import PrivateBegan, PrivateEnded, PrivateInvited
from dongled.agent.protocol.private_messages import Invite


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


@pytest.mark.property("P6")
@pytest.mark.parametrize("back", [(), BADGE])
def test_who_leaves_or_is_expelled_or_refused_loses_it_at_once(back: Sequence[tuple[str, str]]) -> None:
    def leave(meeting: Meeting) -> None:
        meeting.nurse.member.leave(meeting.bus.now)
        meeting.bus.settle(meeting.nurse)

    def expel(meeting: Meeting) -> None:
        moderator = meeting.bus.join("moderator")
        meeting.bus.run(9)
        moderator.member.expel(meeting.nurse.session, "", meeting.bus.now)
        meeting.bus.settle(moderator)

    def revoke(meeting: Meeting) -> None:
        meeting.doctor.policy.deny["identity"] = {"nurse"}
        meeting.doctor.member.rejudge(meeting.bus.now)
        meeting.bus.settle(meeting.doctor)

    def forbid(meeting: Meeting) -> None:
        meeting.doctor.policy.deny["view-screen"] = {"nurse"}
        meeting.doctor.member.rejudge(meeting.bus.now)
        meeting.bus.settle(meeting.doctor)

    for happens, reason in ((leave, "leave"), (expel, "expelled"), (revoke, "refused"), (forbid, "policy")):
        meeting = Meeting()
        meeting.begin(back)
        stream = meeting.stream(meeting.doctor)
        assert stream in meeting.doctor.seals
        happens(meeting)
        meeting.bus.run(1)
        assert stream not in meeting.doctor.seals
        assert of(meeting.doctor, PrivateEnded)[-1].reason == reason
        seals = len([seal for _, seal in meeting.doctor.sealed_at if seal.stream == stream])
        meeting.bus.run(300)
        assert len([seal for _, seal in meeting.doctor.sealed_at if seal.stream == stream]) == seals


@pytest.mark.property("P13")
def test_who_falls_silent_loses_it(meeting: Meeting) -> None:
    meeting.begin()
    stream = meeting.stream(meeting.doctor)
    meeting.bus.vanish(meeting.nurse)
    meeting.bus.run(27)
    assert stream not in meeting.doctor.seals
    assert of(meeting.doctor, PrivateEnded)[-1].reason == "silent"


@pytest.mark.property("P7")
def test_each_round_brings_a_fresh_generation_and_who_takes_none_is_dropped(meeting: Meeting) -> None:
    meeting.begin()
    stream = meeting.stream(meeting.doctor)
    first = meeting.doctor.seals[stream][-1]
    meeting.bus.run(330)
    assert meeting.doctor.seals[stream][-1].base_key != first.base_key
    assert first.kid not in meeting.nurse.opens[meeting.doctor.session, stream]
    # It lives, and beacons, and takes no letter any more.
    meeting.bus.interfere = lambda s, r, m: [] if kind_of(m) == "private" and r is meeting.nurse else [m]
    meeting.bus.run(400)
    assert stream not in meeting.doctor.seals
    assert of(meeting.doctor, PrivateEnded)[-1].reason == "silent"
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "silent"
    assert meeting.nurse.can_watch(meeting.doctor)


@pytest.mark.property("P7")
def test_a_thief_of_a_round_s_secrets_is_shut_out_by_the_next(meeting: Meeting) -> None:
    meeting.begin()
    stream = meeting.stream(meeting.doctor)
    at, stolen = meeting.bus.now, {key.base_key for key in meeting.nurse.ever_opened}
    meeting.bus.run(330)
    seal = meeting.doctor.seals[stream][-1]
    assert seal.base_key not in stolen
    assert min(t for t, s in meeting.doctor.sealed_at if s.stream == stream and t > at) < at + 330


@pytest.mark.property("P6")
def test_policy_is_asked_again_when_fresh_keys_are_sealed(meeting: Meeting) -> None:
    meeting.begin()
    meeting.doctor.policy.deny["view-screen"] = {"nurse"}
    meeting.bus.run(300)
    assert of(meeting.doctor, PrivateEnded)[-1].reason == "policy"
    assert "denied-view-screen" in meeting.doctor.reasons()
    assert meeting.nurse.can_watch(meeting.doctor)


@pytest.mark.property("P3")
def test_who_is_not_live_invites_nobody(meeting: Meeting) -> None:
    invite = Invite(bytes(16), (meeting.key(meeting.doctor),), 60).encode()
    letter = meeting.forged(meeting.doctor, meeting.nurse, "invite", invite)
    remote = meeting.nurse.member._state.remotes[meeting.doctor.session]
    remote.live_until, remote.first_seen = meeting.bus.now - 0.1, meeting.bus.now - 100
    meeting.bus.deliver(meeting.nurse, letter)
    assert meeting.nurse.reasons() == {"not-live"}
    assert of(meeting.nurse, PrivateInvited) == []


@pytest.mark.property("P3")
def test_streams_of_who_may_not_publish_are_not_even_offered(meeting: Meeting) -> None:
    meeting.nurse.policy.deny["publish"] = {"doctor"}
    meeting.invite()
    assert "denied-publish" in meeting.nurse.reasons()
    assert of(meeting.nurse, PrivateInvited) == []
    assert [ended.reason for ended in of(meeting.doctor, PrivateEnded)] == ["refused"]


@pytest.mark.property("P3")
def test_who_may_not_see_it_any_more_when_it_accepts_is_shown_nothing(meeting: Meeting) -> None:
    meeting.invite()
    meeting.doctor.policy.deny["view-screen"] = {"nurse"}
    meeting.accept()
    assert "denied-view-screen" in meeting.doctor.reasons()
    assert of(meeting.doctor, PrivateBegan) == []
    assert set(meeting.doctor.seals) == {"camera"}
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "refused"


@pytest.mark.property("P3")
def test_who_was_gone_when_the_token_had_opened_its_letter_invites_nobody(meeting: Meeting) -> None:
    meeting.bus.token_latency = 0.4
    invite = Invite(bytes(16), (meeting.key(meeting.doctor),), 60).encode()
    letter = meeting.forged(meeting.doctor, meeting.nurse, "invite", invite)
    meeting.bus.deliver(meeting.nurse, letter)
    remote = meeting.nurse.member._state.remotes[meeting.doctor.session]
    remote.live_until = meeting.bus.now + 0.2
    # Its removal is due by a tick, which is late.
    meeting.nurse.due = float("inf")
    meeting.bus.run(0.5)
    assert "not-live" in meeting.nurse.reasons()
    assert of(meeting.nurse, PrivateInvited) == []


@pytest.mark.property("P3")
def test_who_may_not_publish_any_more_shows_nothing_back(meeting: Meeting) -> None:
    meeting.invite()
    meeting.doctor.policy.deny["publish"] = {"nurse"}
    meeting.accept(BADGE)
    assert "denied-publish" in meeting.doctor.reasons()
    assert of(meeting.doctor, PrivateBegan) == []
    assert {key.stream.id for key in meeting.doctor.ever_opened} == {"camera"}
