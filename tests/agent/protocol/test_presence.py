"""A stream that somebody has to be present for, between machines and with real signatures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.protocol.bus import CAMERA, AllowAll, Bus, Terminal
from dongled.agent.policy.api import CheckedCertificate, Presented
from dongled.agent.policy.presence import Presence
from dongled.agent.protocol.api import Assertion, Evidence, EvidenceWanted, Judged, Stream
from support.touch import SoftKey

STREAMS = [*CAMERA, Stream("vault", CAMERA[0].codec)]
LASTS = 900.0


class Guarded(AllowAll):
    """Everything for everybody, but the vault only where somebody touches."""

    def __init__(self, check: Presence) -> None:
        super().__init__()
        self.check = check

    def may_view(self, identity: CheckedCertificate, stream: str, presented: Presented) -> str:
        grounds = super().may_view(identity, stream, presented)
        return ", ".join([grounds, *self.check.check(identity, presented, stream)])


class Meeting:
    """A camera with a vault, and a viewer whose operator's key is registered; ``asked`` counts touches."""

    def __init__(self, streams: tuple[str, ...] = ("vault",)) -> None:
        self.bus, self.alice = Bus(), SoftKey()
        people = [self.alice.registered("alice", "urn:uuid:viewer")]
        check = Presence(people, streams, verified=False, lasts=LASTS, now=lambda: self.bus.now)
        self.camera = self.bus.join("camera", STREAMS, policy=Guarded(check))
        self.bus.run(1)
        self.viewer = self.bus.join("viewer")
        self.wanted: list[EvidenceWanted] = []
        self.asked = 0

    def show(self, touch: Callable[[bytes], Assertion] | None, who: Terminal | None = None) -> None:
        """From now on show this for what is missing."""

        def show(wanted: EvidenceWanted) -> Evidence:
            self.wanted.append(wanted)
            if touch is None or not wanted.missing:
                return Evidence()
            self.asked += 1
            return Evidence(fido=touch(wanted.challenge))

        (who or self.viewer).show = show

    def sees(self, who: Terminal | None = None) -> set[str]:
        return {s.id for s in STREAMS if (who or self.viewer).can_watch(self.camera, s.id)}


@pytest.mark.property("P3")
def test_without_a_touch_only_the_vault_stays_closed_and_with_one_it_opens() -> None:
    meeting = Meeting()
    meeting.show(None)
    meeting.bus.run(60)
    assert meeting.sees() == {"camera"}
    # Said once, though the viewer asks for what it lacks at every beacon.
    assert [refused.reason for refused in meeting.camera.refused] == ["presence-missing"]
    assert meeting.wanted[0].missing == ("camera", "vault")
    assert meeting.wanted[-1].missing == ("vault",)
    meeting.show(meeting.alice.touch)
    meeting.bus.run(15)
    assert meeting.sees() == {"camera", "vault"}
    granted = [effect for effect in meeting.camera.effects if isinstance(effect, Judged)]
    assert granted[-1].verdict == "granted"
    assert "alice touched a FIDO2 key" in granted[-1].detail


def test_one_touch_lasts_for_the_rounds_of_its_time_and_then_another_is_wanted() -> None:
    meeting = Meeting()
    meeting.show(meeting.alice.touch)
    meeting.bus.run(5)
    assert meeting.sees() == {"camera", "vault"}
    meeting.bus.run(LASTS - 10)
    assert meeting.sees() == {"camera", "vault"}
    assert meeting.asked == 1
    assert len(meeting.wanted) >= 4
    meeting.show(None)
    meeting.bus.run(300)
    assert meeting.sees() == {"camera"}
    assert "presence-lapsed" in meeting.camera.reasons()
    meeting.bus.run(400)
    meeting.show(meeting.alice.touch)
    meeting.bus.run(15)
    assert meeting.sees() == {"camera", "vault"}
    assert meeting.asked == 2


def test_where_everything_requires_it_who_shows_none_gets_nothing() -> None:
    meeting = Meeting(("*",))
    meeting.show(None)
    meeting.bus.run(20)
    assert meeting.viewer.ever_opened == []
    assert "refused-by-peer" in meeting.viewer.reasons()
    meeting.show(meeting.alice.touch)
    meeting.bus.run(40)
    assert meeting.sees() == {"camera", "vault"}
    assert meeting.asked == 1


@pytest.mark.property("P11")
def test_a_recorded_touch_and_another_terminals_open_nothing() -> None:
    meeting = Meeting()
    recorded: list[Assertion] = []

    def touch(challenge: bytes) -> Assertion:
        recorded.append(meeting.alice.touch(challenge))
        return recorded[-1]

    meeting.show(touch)
    meeting.bus.run(5)
    assert meeting.sees() == {"camera", "vault"}
    insider = meeting.bus.join("insider")
    meeting.show(lambda challenge: recorded[0], insider)
    meeting.bus.run(20)
    assert "presence-other-terminal" in meeting.camera.reasons()
    meeting.show(meeting.alice.touch, insider)
    meeting.bus.run(20)
    assert meeting.sees(insider) == {"camera"}
    # The viewer itself, come back as a new session with its old answer.
    meeting.bus.vanish(meeting.viewer)
    again = meeting.bus.join("viewer", token=meeting.viewer.token)
    meeting.show(lambda challenge: recorded[0], again)
    meeting.bus.run(60)
    assert meeting.sees(again) == {"camera"}
    assert "presence-challenge" in meeting.camera.reasons()
    meeting.show(meeting.alice.touch, again)
    meeting.bus.run(15)
    assert meeting.sees(again) == {"camera", "vault"}
