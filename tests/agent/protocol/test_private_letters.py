"""Private sessions: letters that are forged, replayed, malformed or too many, and exchanged keys."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from agent.protocol.private import Meeting, of
from dongled.agent.protocol import cbor, cose, limits
from dongled.agent.protocol.api import PrivateBegan, PrivateEnded, PrivateInvited, Stream
from dongled.agent.protocol.private_messages import Accept, Ack, End, Invite, Letter, Opaque, PrivateKey
from dongled.agent.protocol.refusal import Refusal


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


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
