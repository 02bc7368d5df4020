"""Expulsion: by a moderator alone, of the terminal that is meant, and for as long as it says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, SoftToken, Terminal, certificate, kind_of
from dongled.agent.errors import AgentError
from dongled.agent.protocol import cbor, limits
from dongled.agent.protocol.api import Expelled
from dongled.agent.protocol.bans import Bans
from dongled.agent.protocol.context import context


@dataclass
class Meeting:
    bus: Bus
    camera: Terminal
    moderator: Terminal
    target: Terminal
    other: Terminal

    def expel(self, by: Terminal | None = None, reason: str = "loud") -> bytes:
        by = by or self.moderator
        by.member.expel(self.target.session, reason, self.bus.now)
        self.bus.settle(by)
        self.bus.run(0.1)
        return forge.last(self.bus, by, "expel")

    def forged(self, by: Terminal, change: Callable[[dict[str, Any]], None] = lambda fields: None) -> bytes:
        """An expulsion of the target as ``by`` would sign it."""
        party = forge.party_of(by)
        fields: dict[str, Any] = {
            "leaf": party.leaf, "session": party.session, "epoch": party.epoch, "counter": 1,
            "target": [
                f"urn:uuid:{self.target.name}", self.target.session, forge.party_of(self.target).leaf
            ],
            "reason": "", "lifetime": 600,
        }  # fmt: skip
        change(fields)
        ctx = context("expel", "meeting", party, (5,))
        return forge.token_sign("expel", cbor.encode(fields), [certificate(by.name, by.token)], by, ctx)


@pytest.fixture
def meeting() -> Meeting:
    bus = Bus()
    names = ("moderator", "target", "other")
    camera, (moderator, target, other) = bus.join("camera", CAMERA), [bus.join(name) for name in names]
    bus.run(10)
    assert all(viewer.can_watch(camera) for viewer in (moderator, target, other))
    return Meeting(bus, camera, moderator, target, other)


@pytest.mark.property("P6")
def test_who_is_expelled_is_blind_within_two_seconds_and_stays_out(meeting: Meeting) -> None:
    bus, at = meeting.bus, meeting.bus.now
    signs = meeting.moderator.token.counts["sign"]
    meeting.expel()
    bus.run(1.9)
    switched, seal = meeting.camera.sealed_at[-1]
    assert at < switched < at + 2
    assert meeting.other.can_watch(meeting.camera)
    assert meeting.moderator.can_watch(meeting.camera)
    for terminal in (meeting.camera, meeting.other, meeting.moderator):
        assert [reason for _, _, reason in terminal.left] == ["expelled"]
        told = [effect for effect in terminal.effects if isinstance(effect, Expelled)]
        assert told == [Expelled("urn:uuid:target", "urn:uuid:moderator", "loud")]
    assert [alarm.reason for alarm in meeting.target.alarms] == ["expelled"]
    # It asks and announces itself, and comes again as another session under a respelt certificate.
    again = bus.join("target", token=meeting.target.token)
    bus.run(600)
    held = {key.base_key for t in (meeting.target, again) for key in t.ever_opened}
    assert seal.base_key not in held
    assert meeting.camera.sealing() not in held
    assert "expelled" in meeting.camera.reasons()
    assert meeting.other.can_watch(meeting.camera)
    rounds = meeting.moderator.member.epoch - 1
    beacons = len({m for _, who, m in bus.log if who is meeting.moderator and kind_of(m) == "presence"})
    assert rounds >= 2
    assert meeting.moderator.token.counts["sign"] - signs <= 2 * rounds + 1 + beacons


@pytest.mark.property("P6")
def test_who_comes_later_or_missed_it_learns_it_from_a_repetition(meeting: Meeting) -> None:
    bus = meeting.bus
    bus.interfere = lambda s, r, m: [] if kind_of(m) == "expel" else [m]
    meeting.expel()
    bus.run(3)
    assert meeting.target.can_watch(meeting.camera)
    bus.interfere = lambda s, r, m: [m]
    bus.run(9)
    assert not meeting.target.can_watch(meeting.camera)
    late = bus.join("late", CAMERA)
    bus.run(20)
    assert not meeting.target.can_watch(late)
    assert meeting.other.can_watch(late)
    # Rounds later the order is under the moderator's newest epoch.
    bus.run(600)
    latest = bus.join("latest", CAMERA)
    bus.run(20)
    assert not meeting.target.can_watch(latest)
    assert meeting.other.can_watch(latest)


def test_it_ends_when_it_said_and_playing_it_again_does_not_renew_it(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXPEL_LIFETIME", 30.0)
    bus, order = meeting.bus, meeting.expel()
    bus.run(40)
    again = bus.join("target", token=meeting.target.token)
    bus.vanish(meeting.target)
    bus.run(5)
    assert again.can_watch(meeting.camera)
    bus.deliver(meeting.camera, order)
    bus.run(5)
    assert again.can_watch(meeting.camera)


def test_only_a_moderator_s_own_terminal_expels(meeting: Meeting) -> None:
    with pytest.raises(AgentError) as refused:
        meeting.other.member.expel(meeting.target.session, "", meeting.bus.now)
    assert refused.value.reason == "not-moderator"
    with pytest.raises(AgentError) as refused:
        meeting.moderator.member.expel(bytes(16), "", meeting.bus.now)
    assert refused.value.reason == "no-such-peer"
    for reason in ("x" * 201, "two\nlines"):
        with pytest.raises(AgentError) as refused:
            meeting.moderator.member.expel(meeting.target.session, reason, meeting.bus.now)
        assert refused.value.reason == "bad-expel-reason"


def test_an_expulsion_by_one_without_the_role_is_refused(meeting: Meeting) -> None:
    meeting.bus.deliver(meeting.camera, meeting.forged(meeting.other))
    assert meeting.camera.reasons() == {"not-moderator"}
    assert meeting.target.can_watch(meeting.camera)


def test_a_role_that_was_taken_away_meanwhile_does_not_count(meeting: Meeting) -> None:
    meeting.camera.policy.roles = {}
    meeting.bus.deliver(meeting.camera, meeting.forged(meeting.moderator))
    assert meeting.camera.reasons() == {"not-moderator"}


def wrong_target(fields: dict[str, Any]) -> None:
    fields["target"][0] = "urn:uuid:other"


@pytest.mark.property("P11")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrong_target, "expel-target"),
        (lambda fields: fields.update(epoch=2), None),
        (lambda fields: fields.update(leaf=bytes(32)), "identity-mismatch"),
        (lambda fields: fields.update(session=bytes(16)), None),
        (lambda fields: fields.update(lifetime=limits.EXPEL_MOST + 1), "malformed-expel"),
        (lambda fields: fields.update(lifetime=0), "malformed-expel"),
        (lambda fields: fields.update(reason="a\x1b[2Jb"), "malformed-expel"),
        (lambda fields: fields.update(reason="x" * 201), "malformed-expel"),
        (lambda fields: fields.update(counter=0), "malformed-expel"),
    ],
)
def test_what_a_moderator_may_not_say(
    meeting: Meeting, change: Callable[[dict[str, Any]], None], reason: str | None
) -> None:
    meeting.bus.deliver(meeting.camera, meeting.forged(meeting.moderator, change))
    assert meeting.camera.reasons() == ({reason} if reason else set())
    assert meeting.target.can_watch(meeting.camera)
    assert not any(isinstance(effect, Expelled) for effect in meeting.camera.effects)


@pytest.mark.property("P11")
def test_one_in_the_moderator_s_name_is_refused(meeting: Meeting) -> None:
    order = meeting.forged(meeting.moderator)
    version, kind, (protected, unprotected, payload, _) = cbor.decode(order)
    ctx = context("expel", "meeting", forge.party_of(meeting.moderator), (5,))
    chain = [certificate("moderator", meeting.moderator.token)]
    meeting.bus.deliver(meeting.camera, forge.token_sign("expel", payload, chain, meeting.other, ctx))
    meeting.bus.deliver(meeting.camera, forge.edit(order, lambda fields: fields.update(counter=9)))
    other_meeting = context("expel", "elsewhere", forge.party_of(meeting.moderator), (5,))
    meeting.bus.deliver(
        meeting.camera, forge.token_sign("expel", payload, chain, meeting.moderator, other_meeting)
    )
    assert [refused.reason for refused in meeting.camera.refused] == ["signature"] * 3
    meeting.bus.deliver(meeting.moderator, order)
    assert meeting.moderator.reasons() == {"reflected"}
    assert meeting.target.can_watch(meeting.camera)
    assert (version, kind, unprotected) == ("dongled/1", "expel", {})
    assert hashlib.sha256(protected).digest()


@pytest.mark.property("P11")
def test_an_order_from_a_meeting_that_is_over_expels_nobody_now(meeting: Meeting) -> None:
    """The bus plays the moderator's announcement and order to a meeting that it is not in."""
    order, announcement = meeting.expel(), forge.last(meeting.bus, meeting.moderator, "announce")
    bus = Bus(seed=2)
    camera, target = bus.join("camera", CAMERA), bus.join("target", token=SoftToken())
    bus.run(5)
    bus.deliver(camera, announcement)
    bus.deliver(camera, order)
    assert camera.reasons() == {"not-live"}
    bus.run(5)
    assert target.can_watch(camera)


@pytest.mark.property("P11")
def test_an_order_of_an_earlier_round_is_past(meeting: Meeting) -> None:
    order = meeting.forged(meeting.moderator)
    while meeting.moderator.member.epoch == 1:
        meeting.bus.run(1)
    meeting.bus.run(limits.GRACE + 1)
    meeting.bus.deliver(meeting.camera, order)
    assert meeting.camera.reasons() == {"stale-epoch"}
    assert meeting.target.can_watch(meeting.camera)


@pytest.mark.property("P6")
def test_an_expulsion_outlives_the_session_of_who_took_it() -> None:
    bus, bans, token = Bus(), Bans(), SoftToken()
    camera = bus.join("camera", CAMERA, token=token, bans=bans)
    moderator, target = bus.join("moderator"), bus.join("target")
    bus.run(10)
    moderator.member.expel(target.session, "loud", bus.now)
    bus.settle(moderator)
    bus.run(1)
    # The moderator leaves, the camera loses its connection, and both come again.
    for terminal in (moderator, camera, target):
        terminal.member.leave(bus.now)
        bus.settle(terminal)
        bus.vanish(terminal)
    camera = bus.join("camera", CAMERA, token=token, bans=bans)
    bus.run(1)
    again, other = bus.join("target"), bus.join("other")
    bus.run(10)
    assert other.can_watch(camera)
    assert not again.ever_opened
    assert "expelled" in camera.reasons()
    # With a daemon's end it is forgotten.
    camera.member.leave(bus.now)
    bus.settle(camera)
    bus.vanish(camera)
    restarted = bus.join("camera", CAMERA, token=token)
    bus.run(10)
    assert again.can_watch(restarted)


@pytest.mark.property("P14")
def test_the_expelled_is_told_even_if_the_first_order_was_lost(meeting: Meeting) -> None:
    """Its moderator has dropped it by then, and echoes it no more."""
    bus, target = meeting.bus, meeting.target
    moderator = bus.join("moderator-2")
    moderator.policy.roles["moderator-2"] = {"moderator"}
    for terminal in bus.terminals:
        terminal.policy.roles["moderator-2"] = {"moderator"}
    # The target has the announcement of this moderator, and never a proof that it lives.
    lost = {"presence", "request", "welcome"}
    bus.interfere = lambda s, r, m: [] if s is moderator and r is target and kind_of(m) in lost else [m]
    bus.run(9)
    bus.interfere = lambda s, r, m: [] if r is target and kind_of(m) == "expel" else [m]
    meeting.expel(moderator)
    bus.run(0.5)
    assert target.alarms == []
    bus.interfere = lambda s, r, m: [m]
    bus.run(5)
    assert [alarm.reason for alarm in target.alarms] == ["expelled"]
    # An order about an earlier session of it proves nothing, and is not taken without life.
    remote = target.member._state.remotes[moderator.session]
    remote.live_until, remote.first_seen = bus.now - 1, bus.now - 100

    def of_another_session(fields: dict[str, Any]) -> None:
        fields["target"] = [f"urn:uuid:{target.name}", bytes(16), forge.party_of(target).leaf]
        fields["counter"] = 9

    bus.deliver(target, meeting.forged(moderator, of_another_session))
    assert target.refused[-1].reason == "not-live"
    assert len(target.alarms) == 1
