"""Announcements about which policy cannot tell yet: judged again while that may help, and no longer."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal
from dongled.agent.protocol import cbor, limits

pytestmark = pytest.mark.property("P3")


class Meeting:
    """A camera whose policy cannot tell about some yet."""

    def __init__(self, *undecided: str) -> None:
        self.bus = Bus()
        self.camera = self.bus.join("camera", CAMERA)
        self.camera.policy.undecided = set(undecided)
        self.waiting = [self.bus.join(name) for name in undecided]
        self.bus.run(3)
        assert self.known() == set()

    def known(self) -> set[str]:
        return {status.peer.subject for status in self.camera.member.peers(self.bus.now)}

    def decide(self, *refused: str) -> None:
        self.camera.policy.undecided = set()
        self.camera.policy.deny["identity"] = set(refused)
        self.camera.member.rejudge(self.bus.now)
        self.bus.settle(self.camera)


def refusals(terminal: Terminal, begun: int) -> Counter[str]:
    return Counter(refused.reason for refused in terminal.refused[begun:])


def test_taken_as_soon_as_it_is_decided() -> None:
    meeting = Meeting("one", "two")
    meeting.decide("two")
    assert meeting.known() == {"one"}


def test_what_was_refused_at_last_is_not_judged_for_ever() -> None:
    """One waits on, the other was refused: that is told once, not each second."""
    meeting = Meeting("one", "two")
    for terminal in meeting.waiting:
        meeting.bus.vanish(terminal)
    begun = len(meeting.camera.refused)
    meeting.camera.policy.undecided = {"one"}
    meeting.camera.policy.deny["identity"] = {"two"}
    meeting.bus.run(20)
    told = refusals(meeting.camera, begun)
    assert told["denied-identity"] == 1
    assert told["pending"] >= 15
    # Nor is the one, once it has waited in vain for a minute.
    meeting.bus.run(60)
    begun = len(meeting.camera.refused)
    meeting.bus.run(60)
    assert meeting.camera.refused[begun:] == []


def test_a_forged_announcement_that_waited_goes_once_its_signature_is_looked_at() -> None:
    meeting = Meeting("one")
    (one,) = meeting.waiting
    meeting.bus.vanish(one)
    forged = forge.edit(forge.last(meeting.bus, one, "announce"), lambda v: v.update(session=bytes(16)))
    meeting.bus.deliver(meeting.camera, forged, "insider")
    meeting.camera.policy.undecided = set()
    meeting.bus.run(2)
    assert meeting.known() == {"one"}
    assert meeting.camera.reasons() == {"pending", "signature"}
    assert meeting.camera.member._undecided.messages() == []


def test_requests_of_nobody_s_make_nobody_be_judged_again() -> None:
    """Each judgement walks a chain; whoever names an announcement that is not there must not cause many."""
    meeting = Meeting("one", "two", "three")
    insider = meeting.bus.join("insider")
    meeting.bus.run(0.5)
    judged = 0
    check = meeting.camera.policy.check_identity

    def counting(chain: list[bytes]) -> object:
        nonlocal judged
        judged += 1
        return check(chain)

    meeting.camera.policy.check_identity = counting  # type: ignore[method-assign, assignment] # counts calls
    payload = cbor.encode({"to": forge.party_of(meeting.camera).announcement, "sealed": b"x"})
    for number in range(limits.HELD_SENDERS):
        nobody = forge.sign("request", payload, insider, bytes(32), claim=number.to_bytes(32))
        meeting.bus.deliver(meeting.camera, nobody)
    assert judged == 0
