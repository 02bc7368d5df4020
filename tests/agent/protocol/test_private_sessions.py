"""Private sessions: how two of a meeting begin, keep and end what they show each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.protocol.bus import kind_of
from agent.protocol.private import BADGE, SCREEN, Meeting, of
from dongled.agent.errors import AgentError
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Judged, PrivateBegan, PrivateEnded, PrivateInvited


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


@pytest.mark.property("P3")
def test_the_invited_sees_it_once_it_has_accepted_and_nobody_else_ever(meeting: Meeting) -> None:
    meeting.invite()
    assert of(meeting.nurse, PrivateInvited) == [PrivateInvited(meeting.doctor.session, ("screen",), 120)]
    assert meeting.private(meeting.doctor).state == "inviting"
    invited = meeting.private(meeting.nurse)
    assert (invited.state, invited.watches, invited.shows) == ("invited", ("screen",), ())
    assert invited.lapses_in == pytest.approx(119.5, abs=0.1)
    # Nothing is shown, installed or named before both have said yes.
    assert set(meeting.doctor.seals) == {"camera"}
    assert {key.stream.id for key in meeting.nurse.ever_opened} == {"camera"}

    meeting.accept()
    assert meeting.sees(meeting.nurse, meeting.doctor)
    granted = [(judged.peer.subject, judged.streams) for judged in of(meeting.doctor, Judged)]
    assert granted.count(("nurse", ("screen",))) == 1
    began = of(meeting.nurse, PrivateBegan)[0]
    assert [feed.name for feed in began.watches] == ["screen"]
    assert began.watches == of(meeting.doctor, PrivateBegan)[0].shows
    assert meeting.private(meeting.doctor).shows == meeting.private(meeting.nurse).watches == ("screen",)

    meeting.bus.run(1_000)
    assert meeting.sees(meeting.nurse, meeting.doctor)
    assert (
        len(
            {
                seal.kid
                for _, seal in meeting.doctor.sealed_at
                if seal.stream == meeting.stream(meeting.doctor)
            }
        )
        >= 4
    )
    secrets = {seal.base_key for _, seal in meeting.doctor.sealed_at if seal.stream != "camera"}
    assert not secrets & {key.base_key for key in meeting.insider.ever_opened}
    assert meeting.insider.refused == []
    assert meeting.insider.can_watch(meeting.doctor)


def test_the_accepter_may_show_something_back(meeting: Meeting) -> None:
    meeting.begin(back=BADGE)
    assert meeting.sees(meeting.nurse, meeting.doctor)
    assert meeting.sees(meeting.doctor, meeting.nurse)
    assert meeting.private(meeting.doctor).watches == ("badge",)
    meeting.bus.run(700)
    assert meeting.sees(meeting.nurse, meeting.doctor)
    assert meeting.sees(meeting.doctor, meeting.nurse)


@pytest.mark.parametrize("ender", ["doctor", "nurse"])
def test_either_ends_it_and_it_is_over_for_both(meeting: Meeting, ender: str) -> None:
    meeting.begin(back=BADGE)
    by, other = (meeting.doctor, meeting.nurse) if ender == "doctor" else (meeting.nurse, meeting.doctor)
    streams = {terminal.name: meeting.stream(terminal) for terminal in (by, other)}
    meeting.end(by, other)
    for terminal in (by, other):
        assert terminal.member.private(meeting.bus.now) == []
        assert streams[terminal.name] not in terminal.seals
        assert all(not keys for (_, stream), keys in terminal.opens.items() if stream != "camera")
        (ended,) = of(terminal, PrivateEnded)
        assert (ended.reason, ended.mine) == ("ended", terminal is by)
    # And it can be begun anew.
    meeting.begin()
    assert meeting.sees(meeting.nurse, meeting.doctor)
    assert meeting.stream(meeting.doctor) != streams["doctor"]


def test_an_invitation_is_declined_withdrawn_or_lapses(meeting: Meeting) -> None:
    meeting.invite()
    meeting.end(meeting.nurse, meeting.doctor)
    assert [ended.reason for ended in of(meeting.doctor, PrivateEnded)] == ["declined"]
    meeting.invite()
    meeting.end(meeting.doctor, meeting.nurse)
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "ended"
    meeting.invite()
    meeting.bus.run(limits.INVITE_LIFETIME)
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "lapsed"
    with pytest.raises(AgentError) as refused:
        meeting.accept()
    assert refused.value.reason == "no-invitation"
    meeting.bus.run(limits.INVITE_SLACK + 1)
    assert of(meeting.doctor, PrivateEnded)[-1].reason == "lapsed"
    assert meeting.doctor.member.private(meeting.bus.now) == []
    assert "screen" not in str(meeting.doctor.sealed_at)


def test_who_invites_each_other_at_once_can_both_be_seen(meeting: Meeting) -> None:
    meeting.doctor.member.invite(meeting.nurse.session, SCREEN, meeting.bus.now)
    meeting.nurse.member.invite(meeting.doctor.session, BADGE, meeting.bus.now)
    for terminal in (meeting.doctor, meeting.nurse):
        meeting.bus.settle(terminal)
    meeting.bus.run(1)
    meeting.accept()
    meeting.doctor.member.accept(meeting.nurse.session, (), meeting.bus.now)
    meeting.bus.settle(meeting.doctor)
    meeting.bus.run(2)
    assert meeting.nurse.can_watch(meeting.doctor, of(meeting.nurse, PrivateBegan)[0].watches[0].stream.id)
    assert meeting.doctor.can_watch(meeting.nurse, of(meeting.doctor, PrivateBegan)[-1].watches[0].stream.id)


def test_what_cannot_be_asked_for_says_why(meeting: Meeting) -> None:
    def reason(what: Callable[[], None]) -> str:
        with pytest.raises(AgentError) as refused:
            what()
        return refused.value.reason

    doctor, nurse, now = meeting.doctor.member, meeting.nurse, meeting.bus.now
    assert reason(lambda: doctor.invite(bytes(16), SCREEN, now)) == "no-such-peer"
    assert reason(lambda: doctor.invite(nurse.session, (), now)) == "private-streams"
    assert reason(lambda: doctor.invite(nurse.session, (*SCREEN, *SCREEN), now)) == "private-streams"
    assert reason(lambda: doctor.invite(nurse.session, [("a/../b", "vp8")], now)) == "private-streams"
    assert reason(lambda: doctor.accept(nurse.session, (), now)) == "no-invitation"
    assert reason(lambda: doctor.end_private(nurse.session, now)) == "no-private-session"
    meeting.doctor.policy.deny["view"] = {"nurse"}
    assert reason(meeting.invite) == "denied-view"
    assert doctor.private(now) == []
    del meeting.doctor.policy.deny["view"]
    meeting.invite()
    assert reason(meeting.invite) == "private-already"
    meeting.nurse.policy.deny["publish"] = {"doctor"}
    assert reason(meeting.accept) == "denied-publish"
    meeting.bus.vanish(nurse)
    meeting.bus.run(26)
    assert reason(meeting.invite) == "no-such-peer"


@pytest.mark.property("P11")
def test_letters_arrive_over_a_bad_bus(meeting: Meeting) -> None:
    bus = meeting.bus
    bus.duplicates, bus.jitter = 0.3, 0.5
    bus.interfere = lambda s, r, m: [] if kind_of(m) == "private" and bus.rng.random() < 0.4 else [m]
    meeting.invite()
    bus.run(30)
    meeting.accept(BADGE)
    bus.run(30)
    bus.run(1_200)
    assert of(meeting.doctor, PrivateEnded) == of(meeting.nurse, PrivateEnded) == []
    assert meeting.sees(meeting.nurse, meeting.doctor)
    assert meeting.sees(meeting.doctor, meeting.nurse)


def test_the_token_works_once_a_letter_with_keys_and_for_none_without(meeting: Meeting) -> None:
    before = meeting.nurse.token.counts["derive"], meeting.doctor.token.counts["derive"]
    meeting.begin()
    meeting.end(meeting.doctor, meeting.nurse)
    after = meeting.nurse.token.counts["derive"], meeting.doctor.token.counts["derive"]
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert meeting.insider.token.counts["derive"] == 2


def test_a_token_that_fails_for_a_moment_delays_it(meeting: Meeting) -> None:
    meeting.nurse.token_works = False
    meeting.invite()
    assert of(meeting.nurse, PrivateInvited) == []
    meeting.nurse.token_works = True
    meeting.bus.run(3)
    assert len(of(meeting.nurse, PrivateInvited)) == 1


def test_stale_shows_for_the_invited(meeting: Meeting) -> None:
    meeting.begin()
    stream = meeting.stream(meeting.doctor)
    kid = meeting.doctor.seals[stream][-1].kid
    meeting.doctor.member.stream_position(stream, kid, 300)
    meeting.nurse.member.opened_position(meeting.doctor.session, stream, kid, 10)
    meeting.bus.run(10)
    assert meeting.private(meeting.nurse).stale == ("screen",)
    meeting.nurse.member.opened_position(meeting.doctor.session, stream, kid, 300)
    assert meeting.private(meeting.nurse).stale == ()


def test_a_stream_that_cannot_be_shown_ends_its_session(meeting: Meeting) -> None:
    meeting.begin()
    meeting.doctor.member.private_failed(meeting.stream(meeting.doctor), meeting.bus.now)
    meeting.bus.settle(meeting.doctor)
    meeting.bus.run(1)
    assert of(meeting.doctor, PrivateEnded)[-1].reason == "source"
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "ended"
