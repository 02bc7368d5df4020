"""Private sessions: what the others of the meeting learn of one from all that travels."""

from __future__ import annotations

import pytest

from agent.protocol import forge
from agent.protocol.bus import kind_of
from agent.protocol.private import BADGE, Meeting
from dongled.agent.protocol import cbor, cose
from dongled.agent.protocol.private_messages import Opaque
from dongled.agent.protocol.refusal import Refusal


@pytest.fixture
def meeting() -> Meeting:
    return Meeting()


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
