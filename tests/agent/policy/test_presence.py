"""Whose touch lets a terminal have a stream, for how long, and what counts for nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest

from dongled.agent.errors import AgentError
from dongled.agent.policy import presence
from dongled.agent.policy.api import CheckedCertificate, PolicyRefused, Presented
from dongled.agent.policy.presence import Presence
from dongled.agent.protocol.api import Assertion, Evidence
from dongled.tokens.fido.keys import UNLOCK_RP
from support.authority import new_key
from support.evidence import SHOWN
from support.touch import UP, UV, SoftKey

pytestmark = pytest.mark.property("P4")

HERE, THERE = "urn:uuid:6a1d5c3e-7c0b-4f5e-9d53-0c1f8b7c2a11", "urn:uuid:6a1d5c3e-7c0b-4f5e-9d53-0c1f8b7c2a12"
LASTS = 3600.0


def identity(terminal: str = HERE) -> CheckedCertificate:
    return CheckedCertificate(terminal, "CN=x", bytes(32), new_key().public_key(), frozenset(), "hardware")


def request(session: bytes = bytes(16), touch: Callable[[bytes], Assertion] | None = None) -> Presented:
    """A request of that session with a challenge of its own, and what answers it."""
    challenge = secrets.token_bytes(32)
    fido = None if touch is None else touch(challenge)
    return replace(SHOWN, session=session, challenge=challenge, evidence=Evidence(fido=fido))


class Publisher:
    """It requires presence for its vault. Alice is known here, Bob at another terminal."""

    def __init__(
        self, *, verified: bool = False, streams: tuple[str, ...] = ("vault",), count: int | None = 3
    ) -> None:
        self.now = 1000.0
        self.alice, self.bob = SoftKey(count), SoftKey()
        people = [self.alice.registered("alice", HERE), self.bob.registered("bob", THERE)]
        self.check = Presence(people, streams, verified=verified, lasts=LASTS, now=lambda: self.now)

    def judge(self, presented: Presented, stream: str = "vault", terminal: str = HERE) -> str:
        """What it was granted on, or the reason of the refusal."""
        try:
            return "; ".join(self.check.check(identity(terminal), presented, stream)) or "nothing"
        except PolicyRefused as error:
            return error.reason if str(error) and error.hint else "it does not say what to do"


def test_a_touch_counts_for_its_session_and_its_time_and_no_longer() -> None:
    here = Publisher()
    first = request(touch=here.alice.touch)
    assert here.judge(request()) == "presence-missing"
    assert here.judge(first) == "alice touched a FIDO2 key"
    # The next rounds' requests show nothing; what was shown is judged again with them.
    here.now += LASTS - 1
    assert here.judge(request()) == here.judge(first) == "alice touched a FIDO2 key"
    assert here.judge(request(bytes(range(16)))) == "presence-missing"
    assert here.judge(request(), terminal=THERE) == "presence-missing"
    here.now += 1
    assert here.judge(request()) == here.judge(first) == "presence-lapsed"
    assert here.judge(request(touch=here.alice.touch)) == "alice touched a FIDO2 key"
    here.now += LASTS - 1
    assert here.judge(request()) == "alice touched a FIDO2 key"


def test_who_is_registered_no_longer_counts_no_longer_and_the_others_still_do() -> None:
    here = Publisher()
    carol = SoftKey()
    there, first = bytes(range(16)), request(touch=here.alice.touch)
    assert here.judge(first) == "alice touched a FIDO2 key"
    people = [here.alice.registered("alice", HERE), carol.registered("carol", HERE)]
    here.check.change(people)
    assert here.judge(first) == "alice touched a FIDO2 key"
    second = request(there, touch=carol.touch)
    assert here.judge(second) == "carol touched a FIDO2 key"
    here.check.change(people[1:])
    assert here.judge(first) == "presence-unregistered"
    assert here.judge(request()) == "presence-missing"
    assert here.judge(second) == here.judge(request(there)) == "carol touched a FIDO2 key"
    # A key that was copied meanwhile is not believed since it was taken off the list for a while.
    here.alice.count = 3
    here.check.change([replace(people[0], count=0)])
    assert here.judge(request(touch=here.alice.touch)) == "presence-counter"
    here.check.change([replace(people[0], terminal=THERE)])
    assert here.judge(request(there)) == "presence-missing"
    with pytest.raises(AgentError) as refused:
        here.check.change([people[0], people[0]])
    assert refused.value.reason == "presence-doubled"


def test_what_lapsed_does_not_count_again_though_its_key_does_not_count_touches() -> None:
    here = Publisher(count=None)
    first = request(touch=here.alice.touch)
    assert here.judge(first) == "alice touched a FIDO2 key"
    here.now += LASTS
    assert here.judge(first) == "presence-lapsed"
    assert here.judge(request(touch=here.alice.touch)) == "alice touched a FIDO2 key"


def test_only_what_requires_it_looks_at_it() -> None:
    here = Publisher()
    for presented in (request(), request(touch=here.alice.touch), request(touch=here.bob.touch)):
        assert here.judge(presented, "lobby") == "nothing"
    everything = Publisher(streams=("*",))
    assert everything.judge(request(), "lobby") == "presence-missing"
    assert everything.judge(request(touch=everything.alice.touch), "lobby") == "alice touched a FIDO2 key"


def test_who_verified_is_said_and_can_be_required() -> None:
    def verified(key: SoftKey) -> Callable[[bytes], Assertion]:
        return lambda challenge: key.touch(challenge, UP | UV)

    loose, strict = Publisher(), Publisher(verified=True)
    known = "alice touched a FIDO2 key, which knew who it was"
    assert loose.judge(request(touch=verified(loose.alice))) == known
    assert strict.judge(request(touch=strict.alice.touch)) == "presence-unverified"
    assert strict.judge(request()) == "presence-missing"
    assert strict.judge(request(touch=verified(strict.alice))) == known
    untouched = request(touch=lambda challenge: strict.alice.touch(challenge, UV))
    assert strict.judge(untouched) == "presence-untouched"


def as_if(key: SoftKey, other: SoftKey) -> Callable[[bytes], Assertion]:
    """The one's touch, by the name of the other."""
    return lambda challenge: replace(key.touch(challenge), credential=other.credential)


@pytest.mark.parametrize(
    ("touch", "reason"),
    [
        (lambda here: SoftKey().touch, "presence-unregistered"),
        (lambda here: here.bob.touch, "presence-other-terminal"),
        (lambda here: as_if(here.bob, here.alice), "presence-signature"),
        (lambda here: as_if(here.alice, here.bob), "presence-other-terminal"),
        (lambda here: lambda c: here.alice.touch(c, 0), "presence-untouched"),
        (lambda here: lambda c: here.alice.touch(c, rp=UNLOCK_RP), "presence-elsewhere"),
        (lambda here: lambda c: here.alice.touch(bytes(32)), "presence-challenge"),
        (lambda here: lambda c: here.alice.touch(bytes(32), plain=True), "presence-signature"),
        (lambda here: lambda c: Assertion(here.alice.credential, bytes(37), b"", b"x"), "presence-elsewhere"),
        (lambda here: lambda c: Assertion(here.alice.credential, b"x", b"", b"x"), "presence-garbage"),
        (lambda here: lambda c: replace(here.alice.touch(c), client_data=bytes(2000)), "presence-garbage"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_refused_and_changes_nothing(
    touch: Callable[[Publisher], Callable[[bytes], Assertion]], reason: str
) -> None:
    here = Publisher()
    bad = request(touch=touch(here))
    assert here.judge(bad) == reason
    assert here.judge(bad) == reason
    assert here.judge(bad, "lobby") == "nothing"
    assert here.judge(request()) == "presence-missing"
    assert here.judge(request(touch=here.alice.touch)) == "alice touched a FIDO2 key"
    assert here.judge(bad) == reason


@pytest.mark.property("P11")
def test_a_counter_that_does_not_rise_is_a_copy_of_the_key() -> None:
    here = Publisher(count=3)

    def counting(count: int) -> Callable[[bytes], Assertion]:
        def touch(challenge: bytes) -> Assertion:
            here.alice.count = count - 1
            return here.alice.touch(challenge)

        return touch

    for before in (0, 2, 3):
        assert here.judge(request(touch=counting(before))) == "presence-counter"
    good = request(touch=counting(10))
    assert here.judge(good) == "alice touched a FIDO2 key"
    for before in (0, 9, 10):
        assert here.judge(request(touch=counting(before))) == "presence-counter"
    # In another session as well; and the same request once more is no other.
    assert here.judge(request(bytes(range(16)), counting(10))) == "presence-counter"
    assert here.judge(good) == "alice touched a FIDO2 key"


@pytest.mark.property("P11")
def test_another_sessions_answer_is_none_here() -> None:
    here = Publisher()
    good = request(touch=here.alice.touch)
    assert here.judge(good) == "alice touched a FIDO2 key"
    elsewhere = replace(request(bytes(range(16))), evidence=good.evidence)
    assert here.judge(elsewhere) == "presence-challenge"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MOST_SESSIONS", 2)
    here = Publisher()
    for number in range(3):
        assert here.judge(request(bytes([number] * 16), here.alice.touch)) == "alice touched a FIDO2 key"
    assert [here.judge(request(bytes([number] * 16))) for number in range(3)] == [
        "presence-missing",
        "alice touched a FIDO2 key",
        "alice touched a FIDO2 key",
    ]


def test_a_credential_is_one_persons() -> None:
    key = SoftKey()
    with pytest.raises(AgentError) as refused:
        Presence([key.registered("a", HERE), key.registered("b", THERE)], ["*"], verified=False, lasts=1)
    assert refused.value.reason == "presence-doubled"
