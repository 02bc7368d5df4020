"""Private sessions: what two of a meeting show each other, and nobody else opens or recognises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from dongled.agent.errors import AgentError
from dongled.agent.protocol import cbor, cose, limits, sealing
from dongled.agent.protocol.api import (
    Judged,
    PrivateBegan,
    PrivateEnded,
    PrivateInvited,
    PrivateStatus,
    Stream,
)
from dongled.agent.protocol.private_messages import Accept, Ack, End, Invite, Letter, Opaque, PrivateKey
from dongled.agent.protocol.refusal import Refusal
from dongled.media.keyring import commit_base_key

SCREEN = (("screen", "vp8"),)
BADGE = (("badge", "vp8"),)

E = TypeVar("E")


def of(terminal: Terminal, kind: type[E]) -> list[E]:
    return [effect for effect in terminal.effects if isinstance(effect, kind)]


class Meeting:
    """Two who have something to show each other, and an insider who takes part in the meeting."""

    def __init__(self, seed: int = 1) -> None:
        self.bus = Bus(seed)
        self.doctor = self.bus.join("doctor", CAMERA)
        self.nurse = self.bus.join("nurse", CAMERA)
        self.insider = self.bus.join("insider", CAMERA)
        self.bus.run(9)
        for terminal in self.bus.terminals:
            assert terminal.refused == []

    def invite(self, streams: Sequence[tuple[str, str]] = SCREEN) -> None:
        self.doctor.member.invite(self.nurse.session, streams, self.bus.now)
        self.bus.settle(self.doctor)
        self.bus.run(0.5)

    def accept(self, streams: Sequence[tuple[str, str]] = ()) -> None:
        self.nurse.member.accept(self.doctor.session, streams, self.bus.now)
        self.bus.settle(self.nurse)
        self.bus.run(0.5)

    def begin(self, back: Sequence[tuple[str, str]] = ()) -> None:
        self.invite()
        self.accept(back)
        assert self.private(self.doctor).state == self.private(self.nurse).state == "active"

    def end(self, by: Terminal, whom: Terminal) -> None:
        by.member.end_private(whom.session, self.bus.now)
        self.bus.settle(by)
        self.bus.run(0.5)

    def private(self, terminal: Terminal) -> PrivateStatus:
        (status,) = terminal.member.private(self.bus.now)
        return status

    def stream(self, owner: Terminal) -> str:
        """By which id its private stream goes."""
        return of(owner, PrivateBegan)[-1].shows[0].stream.id

    def sees(self, viewer: Terminal, owner: Terminal) -> bool:
        return viewer.can_watch(owner, self.stream(owner))

    def letters(self, sender: Terminal) -> list[bytes]:
        return [m for _, who, m in self.bus.log if who is sender and kind_of(m) == "private"]

    def forged(
        self,
        by: Terminal,
        to: Terminal,
        kind: str,
        content: bytes,
        *,
        counter: int = 1_000,
        change: Callable[[dict[str, Any]], None] = lambda letter: None,
        claim: Terminal | None = None,
        meeting: str = "meeting",
    ) -> bytes:
        """A letter as ``by`` can make one with its own keys, in ``claim``'s name."""
        from dongled.agent.protocol.context import context

        sender, receiver = forge.party_of(claim or by), forge.epoch_of(to)
        ctx = context("private", meeting, sender, (5,), receiver.party)
        body = content
        if kind in ("invite", "accept"):
            body = sealing.seal_to_token(sealing.p256_public(receiver.announce.data), content, ctx)
        nonce = next(r.nonce for r in by.member._state.remotes.values() if r.session == to.session)
        letter = {"kind": kind, "echo": nonce, "counter": counter, "body": body}
        change(letter)
        encoded = cbor.encode(letter)
        padded = (len(encoded).to_bytes(2) + encoded).ljust(limits.LETTER, b"\0")
        sealed = sealing.seal(sealing.xwing_public(receiver.announce.xwing), padded, ctx)
        outer = context("private", meeting, sender, (5,))
        return forge.sign("private", Opaque(sealed).encode(), by, outer, claim=sender.announcement)

    def give(self, to: Terminal, message: bytes) -> str | None:
        """Deliver and let the token work; the reason it was refused for, None when it was not."""
        before = len(to.refused)
        self.bus.deliver(to, message)
        self.bus.run(0.1)
        return to.refused[before].reason if len(to.refused) > before else None

    def key(self, by: Terminal, stream: str = "ab" * 16, name: str = "screen", kid: int = 500) -> PrivateKey:
        commit = commit_base_key(bytes(64), kid, by.session, forge.epoch_of(by).announce.signing)
        return PrivateKey(stream, name, "vp8", kid, commit, bytes(64))


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


# --- how it goes


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


# --- who may not


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


# --- what others learn


@pytest.mark.property("P1")
def test_an_insider_with_every_public_key_cannot_tell_whom_a_letter_is_for_or_what_it_is() -> None:
    meeting = Meeting()
    meeting.begin(back=BADGE)
    meeting.bus.run(300)
    meeting.end(meeting.doctor, meeting.nurse)
    letters = [(who, m) for who in (meeting.doctor, meeting.nurse) for m in meeting.letters(who)]
    # Invitations, acceptances with and without keys, ends and acknowledgements.
    assert len(letters) >= 10
    assert len({len(message) for _, message in letters}) == 1
    for sender, message in letters:
        signed = cose.parse(message)
        assert set(cbor.decode(signed.payload)) == {"sealed"}
        me = forge.epoch_of(sender)
        fits = []
        for receiver in (None, meeting.doctor, meeting.nurse, meeting.insider):
            ctx = me.context("private", forge.party_of(receiver) if receiver else None)
            try:
                signed.verify_eddsa(me.signing.public_key(), ctx)
                fits.append(receiver)
            except Refusal:
                pass
            if receiver is meeting.insider:
                with pytest.raises(Refusal):
                    forge.epoch_of(meeting.insider).sealing.open(Opaque.parse(signed.payload).sealed, ctx)
        # Its signature fits nobody in particular (an epoch later it is another's key altogether).
        assert fits in ([None], [])
    assert meeting.insider.member.private(meeting.bus.now) == []
    assert meeting.insider.refused == []
    # In no message that travels is there the name of a stream, or either's session beside it.
    assert not any(b"screen" in m or b"badge" in m for _, _, m in meeting.bus.log)


@pytest.mark.property("P1")
def test_announcements_grants_and_rekeys_say_nothing_of_it_and_a_beacon_only_that_something_flows(
    meeting: Meeting,
) -> None:
    meeting.bus.run(30)
    before = len(meeting.bus.log)
    meeting.begin()
    stream = meeting.stream(meeting.doctor)
    meeting.bus.run(30)
    later = meeting.bus.log[before:]
    assert {kind_of(m) for _, _, m in later} == {"private", "presence"}
    named = [(who, m) for _, who, m in later if stream.encode() in m]
    assert named
    for who, message in named:
        assert (kind_of(message), who) == ("presence", meeting.doctor)
        positions = cbor.decode(cose.parse(message).payload)["streams"]
        assert [item[0] for item in positions] == ["camera", stream]


# --- forgeries


@pytest.mark.property("P4")
def test_an_insider_s_letter_in_another_s_name_is_refused(meeting: Meeting) -> None:
    invite = Invite(bytes(16), (meeting.key(meeting.doctor),), 60).encode()
    message = meeting.forged(meeting.insider, meeting.nurse, "invite", invite, claim=meeting.doctor)
    assert meeting.give(meeting.nurse, message) == "signature"
    # What the doctor sealed, under the insider's own name: the seal is bound to its sender.
    meeting.invite()
    payload = cose.parse(meeting.letters(meeting.doctor)[0]).payload
    party = forge.party_of(meeting.insider)
    ctx = forge.epoch_of(meeting.insider).context("private")
    stolen = forge.sign("private", payload, meeting.insider, ctx, claim=party.announcement)
    derives = meeting.nurse.token.counts["derive"]
    assert meeting.give(meeting.nurse, stolen) is None
    assert meeting.nurse.token.counts["derive"] == derives
    assert [invited.peer for invited in of(meeting.nurse, PrivateInvited)] == [meeting.doctor.session]


@pytest.mark.property("P4")
def test_nobody_accepts_in_the_place_of_the_invited(meeting: Meeting) -> None:
    meeting.invite()
    session = next(iter(meeting.doctor.member._private._sessions.values()))
    content = Accept(session.id, session.invites[-1], (meeting.key(meeting.insider),)).encode()
    assert (
        meeting.give(meeting.doctor, meeting.forged(meeting.insider, meeting.doctor, "accept", content))
        == "private-unknown"
    )
    assert meeting.private(meeting.doctor).state == "inviting"
    # Nor ends it.
    end = meeting.forged(
        meeting.insider, meeting.doctor, "end", End(session.id, "declined").encode(), counter=1_001
    )
    assert meeting.give(meeting.doctor, end) is None
    assert meeting.private(meeting.doctor).state == "inviting"
    # The invited itself accepts what was offered, and nothing else.
    other = Accept(session.id, bytes(32), ()).encode()
    assert (
        meeting.give(meeting.doctor, meeting.forged(meeting.nurse, meeting.doctor, "accept", other))
        == "private-unknown"
    )
    assert of(meeting.doctor, PrivateBegan) == []


@pytest.mark.property("P11")
def test_a_letter_is_taken_once_and_in_its_own_time_and_meeting(meeting: Meeting) -> None:
    meeting.invite()
    letter = meeting.letters(meeting.doctor)[0]
    meeting.end(meeting.nurse, meeting.doctor)
    derives = meeting.nurse.token.counts["derive"]
    # The same bytes again are acknowledged and nothing more.
    assert meeting.give(meeting.nurse, letter) is None
    assert meeting.nurse.member.private(meeting.bus.now) == []
    # The insider sends them as they are: its name on the bus is not believed.
    meeting.bus.deliver(meeting.nurse, letter, meeting.insider.source)
    assert meeting.nurse.token.counts["derive"] == derives
    assert len(of(meeting.nurse, PrivateInvited)) == 1
    # Under a fresh number the invitation that is over stays over.
    session_id = next(iter(meeting.nurse.member._private._ended))
    again = Invite(session_id, (meeting.key(meeting.doctor),), 60).encode()
    forged = meeting.forged(meeting.doctor, meeting.nurse, "invite", again)
    assert meeting.give(meeting.nurse, forged) == "private-unknown"
    # Another meeting of the same terminals, and the same meeting after a restart.
    elsewhere = Bus(seed=7)
    nurse = elsewhere.join("nurse", token=meeting.nurse.token, meeting="another")
    doctor = elsewhere.join("doctor", CAMERA, token=meeting.doctor.token, meeting="another")
    elsewhere.run(9)
    elsewhere.deliver(nurse, letter)
    elsewhere.run(1)
    assert of(nurse, PrivateInvited) == []
    restarted = meeting.bus.join("nurse", CAMERA, token=meeting.nurse.token)
    meeting.bus.vanish(meeting.nurse)
    meeting.bus.run(9)
    meeting.bus.deliver(restarted, letter)
    meeting.bus.run(1)
    assert of(restarted, PrivateInvited) == []
    assert restarted.member.private(meeting.bus.now) == []
    assert doctor.session != meeting.doctor.session


@pytest.mark.property("P11")
def test_numbers_and_nonces_of_the_past_are_refused(meeting: Meeting) -> None:
    invite = Invite(bytes(16), (meeting.key(meeting.doctor),), 60).encode()
    end = End(bytes(16), "ended").encode()

    def letter(kind: str, content: bytes, counter: int, **more: Any) -> bytes:
        return meeting.forged(meeting.doctor, meeting.nurse, kind, content, counter=counter, **more)

    assert meeting.give(meeting.nurse, letter("end", end, 10)) is None
    assert meeting.give(meeting.nurse, letter("invite", invite, 10)) == "letter-replayed"
    for counter in range(20, 20 + limits.LETTERS_KEPT + 1):
        meeting.bus.run(0.3)
        assert meeting.give(meeting.nurse, letter("end", end, counter)) is None
    assert meeting.give(meeting.nurse, letter("invite", invite, 11)) == "letter-replayed"
    old = letter("invite", invite, 2_000)
    meeting.bus.run(26)
    assert meeting.give(meeting.nurse, old) == "nonce-not-outstanding"
    foreign = letter("invite", invite, 2_001, change=lambda v: v.update(echo=bytes(16)))
    assert meeting.give(meeting.nurse, foreign) == "nonce-not-outstanding"
    assert of(meeting.nurse, PrivateInvited) == []


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


@pytest.mark.property("P11")
def test_what_was_agreed_to_cannot_be_exchanged(meeting: Meeting) -> None:
    meeting.begin()
    session = next(iter(meeting.doctor.member._private._sessions.values()))
    (shown,) = session.shows.values()
    good = meeting.key(meeting.doctor, shown.key.stream)
    for keys, reason in (
        ([meeting.key(meeting.doctor, shown.key.stream, "bedroom")], "private-changed"),
        ([good, meeting.key(meeting.doctor, "cd" * 16, "more", 501)], "private-changed"),
        ([meeting.key(meeting.doctor, shown.key.stream, kid=0)], "kid-old"),
        ([PrivateKey(*good.same, good.kid, bytes(32), good.base_key)], "commitment"),
        ([meeting.key(meeting.insider, shown.key.stream)], "commitment"),
    ):
        other = Meeting()
        other.begin()
        (known,) = other.doctor.member._private._sessions.values()
        (theirs,) = known.shows.values()
        made = []
        for key in keys:
            stream = theirs.key.stream if key.stream == shown.key.stream else key.stream
            owner = other.insider if reason == "commitment" and key is not good else other.doctor
            made.append(other.key(owner, stream, key.name, key.kid))
        content = Invite(known.id, tuple(made), 60).encode()
        assert other.give(other.nurse, other.forged(other.doctor, other.nurse, "invite", content)) == reason
        assert of(other.nurse, PrivateEnded)[-1].reason == "refused"
        assert other.nurse.opens[other.doctor.session, theirs.key.stream] == {}


@pytest.mark.property("P14")
def test_malformed_letters_have_their_reason_and_spend_nothing(meeting: Meeting) -> None:
    key = meeting.key(meeting.doctor)

    def rows(**change: Any) -> list[list[Any]]:
        fields = {name: getattr(key, name) for name in PrivateKey.__dataclass_fields__} | change
        return [list(fields.values())]

    def content(kind: str = "invite", **change: Any) -> bytes:
        fields = {"id": bytes(16), "streams": rows(), "lifetime": 60} | change
        return cbor.encode(fields)

    good = content()
    n = iter(range(100, 1_000))

    def give(kind: str, body: bytes, **more: Any) -> str | None:
        meeting.bus.run(6)
        made = meeting.forged(meeting.doctor, meeting.nurse, kind, body, counter=next(n), **more)
        return meeting.give(meeting.nurse, made)

    derives = meeting.nurse.token.counts["derive"]
    for reason, change in {
        "malformed-letter": lambda v: v.update(kind="gossip"),
        "malformed-letter ": lambda v: v.update(counter=0),
        "malformed-letter  ": lambda v: v.update(more=1),
        "bad-point": lambda v: v.update(body=bytes(200)),
    }.items():
        assert give("invite", good, change=change) == reason.strip()
    assert meeting.nurse.token.counts["derive"] == derives
    for bad in (
        content(id=bytes(15)),
        content(lifetime=0),
        content(lifetime=601),
        content(streams=[]),
        content(streams=rows() * 2),
        content(streams=rows(stream="camera")),
        content(streams=rows(stream="AB" * 16)),
        content(streams=rows(name="../etc")),
        content(streams=rows(codec="raw")),
        content(streams=rows(base_key=bytes(32))),
        content(more=1),
    ):
        assert give("invite", bad) == "malformed-invite", bad
    assert give("accept", good) == "malformed-accept"
    assert give("end", cbor.encode({"id": bytes(16), "reason": "bored"})) == "malformed-end"
    assert give("ack", cbor.encode({"of": 0})) == "malformed-ack"
    assert of(meeting.nurse, PrivateInvited) == []
    assert give("invite", good) is None
    assert len(of(meeting.nurse, PrivateInvited)) == 1


def test_padding_is_all_zeros_and_every_letter_fits() -> None:
    keys = tuple(
        PrivateKey("f" * 32, "n" * 30 + f"{i:02}", "vp8", 2**64 - 1, bytes(32), bytes(64)) for i in range(4)
    )
    for content in (Invite(bytes(16), keys, 600).encode(), Accept(bytes(16), bytes(32), keys).encode()):
        body = bytes(65) + content + bytes(16)
        padded = Letter("accept", bytes(16), 2**64 - 1, body).encode()
        assert len(padded) == limits.LETTER
        assert Letter.parse(padded).body == body
    for bad in (padded[:-1] + b"\1", padded[:-1], padded + b"\0", b"\xff\xff" + padded[2:], b""):
        with pytest.raises(Refusal, match="malformed-letter"):
            Letter.parse(bad)
    with pytest.raises(Refusal, match="malformed-private"):
        Opaque.parse(cbor.encode({"sealed": bytes(limits.LETTER_SEALED - 1)}))


@pytest.mark.property("P14")
def test_one_terminal_cannot_keep_the_others_or_their_tokens_busy(meeting: Meeting) -> None:
    derives = meeting.nurse.token.counts["derive"]
    for number in range(60):
        invite = Invite(number.to_bytes(16), (meeting.key(meeting.insider, f"{number:032x}"),), 60).encode()
        letter = meeting.forged(meeting.insider, meeting.nurse, "invite", invite, counter=number + 1)
        meeting.give(meeting.nurse, letter)
    assert {"letter-quota", "private-full"} <= meeting.nurse.reasons()
    assert meeting.nurse.token.counts["derive"] - derives <= limits.LETTER_DERIVES_BURST + 2
    assert meeting.private(meeting.nurse).peer.session == meeting.insider.session
    # Whom they are not for, they keep less busy still.
    before = len(meeting.doctor.refused)
    for _ in range(60):
        letter = meeting.forged(meeting.insider, meeting.nurse, "end", End(bytes(16), "ended").encode())
        meeting.bus.deliver(meeting.doctor, letter)
    assert {refused.reason for refused in meeting.doctor.refused[before:]} == {"letter-quota"}
    meeting.bus.run(60)
    meeting.begin()


@pytest.mark.property("P8")
def test_two_keys_under_one_number_raise_an_alarm(meeting: Meeting) -> None:
    meeting.begin()
    stream = meeting.stream(meeting.doctor)
    (session,) = meeting.doctor.member._private._sessions.values()
    shown = session.shows[stream]
    assert shown.at is not None
    shown.at = type(shown.at)(stream, shown.at.kid, 5, hashlib.sha256(b"another").digest())
    meeting.bus.run(8)
    assert [alarm.reason for alarm in meeting.nurse.alarms] == ["equivocation"]
    assert meeting.nurse.opens[meeting.doctor.session, stream] == {}


def test_a_stream_that_cannot_be_shown_ends_its_session(meeting: Meeting) -> None:
    meeting.begin()
    meeting.doctor.member.private_failed(meeting.stream(meeting.doctor), meeting.bus.now)
    meeting.bus.settle(meeting.doctor)
    meeting.bus.run(1)
    assert of(meeting.doctor, PrivateEnded)[-1].reason == "source"
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "ended"


@pytest.mark.property("P11")
def test_an_invitation_that_was_refused_costs_the_token_once(meeting: Meeting) -> None:
    """Whoever plays it again, as it was, makes nobody's token work."""
    meeting.nurse.policy.deny["publish"] = {"doctor"}
    derives = meeting.nurse.token.counts["derive"]
    meeting.invite()
    (letter, *_) = meeting.letters(meeting.doctor)
    for _ in range(20):
        meeting.give(meeting.nurse, letter)
    assert meeting.nurse.token.counts["derive"] == derives + 1
    assert len(meeting.letters(meeting.nurse)) < 8


@pytest.mark.property("P14")
def test_a_new_session_of_the_same_terminal_has_no_new_quota(meeting: Meeting) -> None:
    def invites(by: Terminal) -> None:
        for number in range(12):
            key = meeting.key(by, f"{number:032x}")
            invite = Invite(bytes(15) + bytes([number]), (key,), 60).encode()
            meeting.give(
                meeting.nurse, meeting.forged(by, meeting.nurse, "invite", invite, counter=number + 1)
            )

    derives = meeting.nurse.token.counts["derive"]
    invites(meeting.insider)
    meeting.bus.vanish(meeting.insider)
    again = meeting.bus.join("insider", CAMERA, token=meeting.insider.token)
    meeting.bus.run(9)
    invites(again)
    # One more is for its public stream.
    most = limits.LETTER_DERIVES_BURST + 12 * limits.LETTER_DERIVES_RATE + 1
    assert meeting.nurse.token.counts["derive"] - derives <= most
    assert "letter-quota" in meeting.nurse.reasons()


@pytest.mark.property("P3")
def test_who_may_not_see_it_any_more_when_it_accepts_is_shown_nothing(meeting: Meeting) -> None:
    meeting.invite()
    meeting.doctor.policy.deny["view-screen"] = {"nurse"}
    meeting.accept()
    assert "denied-view-screen" in meeting.doctor.reasons()
    assert of(meeting.doctor, PrivateBegan) == []
    assert set(meeting.doctor.seals) == {"camera"}
    assert of(meeting.nurse, PrivateEnded)[-1].reason == "refused"


@pytest.mark.property("P4")
def test_nobody_acknowledges_another_s_letter_or_invites_into_another_s_session(meeting: Meeting) -> None:
    meeting.bus.interfere = lambda s, r, m: [] if kind_of(m) == "private" and s is meeting.nurse else [m]
    meeting.invite()
    (session,) = meeting.doctor.member._private._sessions.values()
    assert session.posted is not None
    ack = Ack(session.posted.counters[-1]).encode()
    assert meeting.give(meeting.doctor, meeting.forged(meeting.insider, meeting.doctor, "ack", ack)) is None
    assert session.posted in meeting.doctor.member._private._letters._posted
    into = Invite(session.id, (meeting.key(meeting.insider),), 60).encode()
    for terminal in (meeting.doctor, meeting.nurse):
        message = meeting.forged(meeting.insider, terminal, "invite", into, counter=1_001)
        assert meeting.give(terminal, message) == "private-unknown"
    meeting.bus.interfere = lambda s, r, m: [m]
    meeting.bus.run(10)
    meeting.accept()
    assert meeting.sees(meeting.nurse, meeting.doctor)


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


@pytest.mark.property("P10")
def test_a_private_stream_does_not_take_a_public_one_s_name() -> None:
    meeting = Meeting()
    name = "ab" * 16
    again = meeting.bus.join("other", (Stream(name, "vp8"),))
    meeting.bus.run(9)
    invite = Invite(bytes(16), (meeting.key(again, name),), 60).encode()
    assert (
        meeting.give(meeting.nurse, meeting.forged(again, meeting.nurse, "invite", invite))
        == "private-changed"
    )
    assert of(meeting.nurse, PrivateInvited) == []
