"""Insiders that flood, within what the bus lets one source say: the others' pictures and voices go on.

What a terminal answers is bounded by what may reasonably be asked of it, not by what they make of it: else
its own messages would exceed what the others take from one source, and it would fall silent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from dongled.agent.protocol import limits, sealing
from dongled.agent.protocol.api import PrivateEnded
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.messages import Request, Sealed

pytestmark = pytest.mark.property("P14")

# Just below what two sources may say.
EACH = 1 / (2 * limits.QUOTA_RATE - 4)
SECONDS = 12.0


class Meeting:
    """A camera with several viewers, and two insiders who may watch as well."""

    def __init__(self, viewers: int = 4) -> None:
        self.bus = Bus()
        self.camera = self.bus.join("camera", CAMERA)
        self.viewers = [self._join(f"viewer{n}") for n in range(viewers)]
        self.insiders = [self._join(f"insider{n}") for n in range(2)]
        self.bus.run(9)
        assert all(viewer.can_watch(self.camera) for viewer in self.viewers)

    def _join(self, name: str) -> Terminal:
        joined = self.bus.join(name)
        self.bus.run(0.7)
        return joined

    @property
    def honest(self) -> list[Terminal]:
        return [self.camera, *self.viewers]

    def flood(self, makers: Sequence[Iterator[bytes]], seconds: float = SECONDS, each: float = EACH) -> None:
        """Have the insiders say these in turn: what the honest say meanwhile stays within bounds."""
        begun = len(self.bus.log)
        for number in range(int(seconds / each)):
            self.bus._spread(self.insiders[number % 2], next(makers[number % len(makers)]))
            self.bus.run(each)
        said = [who.name for _, who, _ in self.bus.log[begun:]]
        for terminal in self.honest:
            cut_off = {refused.source for refused in terminal.refused if refused.reason == "quota"}
            assert cut_off == set()
            assert said.count(terminal.name) < seconds * limits.QUOTA_RATE / 3
        live = {status.peer.session for status in self.camera.member.peers(self.bus.now) if status.live}
        assert live >= {viewer.session for viewer in self.viewers}
        assert all(viewer.can_watch(self.camera) for viewer in self.viewers)


def requests(meeting: Meeting, insider: Terminal) -> Iterator[bytes]:
    """Ever new requests by an insider, each with a fresh nonce and number, as if it had lost rekeys."""
    camera = meeting.camera
    for number in itertools.count(1_000):
        me, they = forge.epoch_of(insider), forge.epoch_of(camera)
        remote = insider.member._state.remotes[camera.session]
        held = insider.member._subscriber.feeds[camera.session].key_seq
        asked = max(0, held - number % 20)
        inner = Request(("camera",), remote.nonce, number.to_bytes(16), number, asked)
        ctx = me.context("request", they.party)
        sealed = sealing.seal(sealing.xwing_public(they.sealing.public), inner.encode(), ctx)
        yield me.sign("request", Sealed(they.digest, sealed).encode(), ctx)[0]


def announcements(insider: Terminal) -> Iterator[bytes]:
    """Ever new sessions of an insider's terminal, each truly announced."""
    me = forge.epoch_of(insider)
    for number in itertools.count(1):
        session = insider.name.encode() + number.to_bytes(16 - len(insider.name))
        payload = replace(me.announce, session=session)
        ctx = context("announce", "meeting", Party(me.party.leaf, session, 1), payload.suites)
        yield forge.token_sign("announce", payload.encode(), list(me.chain), insider, ctx)


def test_ever_new_requests() -> None:
    meeting = Meeting()
    meeting.flood([requests(meeting, insider) for insider in meeting.insiders])
    assert "request-quota" in meeting.camera.reasons()
    # Who comes now is served.
    late = meeting.bus.join("late")
    meeting.bus.run(2)
    assert late.can_watch(meeting.camera)


def test_everybody_s_requests_played_again() -> None:
    meeting = Meeting()
    requests = [m for _, who, m in meeting.bus.log if kind_of(m) == "request" and who in meeting.viewers]
    meeting.flood([itertools.cycle(requests)])


def test_requests_that_wait_for_a_verdict_played_again() -> None:
    meeting = Meeting()
    meeting.camera.policy.thinking = {"waiting"}
    waiting = meeting.bus.join("waiting")
    meeting.bus.run(1)
    request = forge.last(meeting.bus, waiting, "request")
    begun = len(meeting.bus.log)
    meeting.flood([itertools.repeat(request)])
    assert sum(kind_of(m) == "refuse" for _, _, m in meeting.bus.log[begun:]) < 8


def test_ever_new_sessions_of_one_terminal() -> None:
    meeting = Meeting()
    meeting.flood([announcements(insider) for insider in meeting.insiders])


def test_an_insider_s_repetition_of_letters_costs_their_sender_nothing() -> None:
    """The doctor's letters again and again, as they were: it can still write, and the nurse stays heard."""
    meeting = Meeting(2)
    doctor, nurse = meeting.camera, meeting.viewers[0]
    doctor.member.invite(nurse.session, [("screen", "vp8")], meeting.bus.now)
    meeting.bus.settle(doctor)
    meeting.bus.run(0.5)
    nurse.member.accept(doctor.session, (), meeting.bus.now)
    meeting.bus.settle(nurse)
    meeting.bus.run(12)

    def letters() -> Iterator[bytes]:
        while True:
            known = [m for _, who, m in meeting.bus.log if kind_of(m) == "private" and who in (doctor, nurse)]
            yield from dict.fromkeys(known[-40:])

    # Over a round of either, in which fresh keys have to be written and acknowledged.
    meeting.bus.run(205)
    meeting.flood([letters()], 60, 0.1)
    for terminal in (doctor, nurse):
        assert [effect for effect in terminal.effects if isinstance(effect, PrivateEnded)] == []
        assert "letter-quota" not in terminal.reasons()
        assert terminal.member.epoch > 1
