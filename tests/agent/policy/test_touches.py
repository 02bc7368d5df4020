"""Whom a viewer's operator is asked to touch a key for, how often, and what happens when nobody does."""

from __future__ import annotations

import asyncio
import secrets
import threading
from typing import Any

import pytest

from dongled.agent.errors import AgentError
from dongled.agent.policy import touches as module
from dongled.agent.policy.touches import IN_VAIN, NO_KEY, WANTED, Touches
from dongled.agent.protocol.api import Assertion, Evidence, EvidenceWanted, Peer, Stream
from dongled.tokens.errors import TokenError
from dongled.tokens.fido import presence
from dongled.tokens.fido.keys import Person
from dongled.tokens.fido.presence import Answer, verify
from support.touch import SoftKey

CAMERA, OTHER = "urn:uuid:camera", "urn:uuid:other"


class Desk:
    """A key, and somebody who touches it ``at_once``, or later, or never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.key, self.at_once, self.verified = SoftKey(), True, False
        self.error: TokenError | None = None
        self.blinks = threading.Event()
        self.touched, self.given_up = threading.Event(), threading.Event()
        self.asked: list[bytes] = []
        self.persons: list[Person] = []
        self.now = 1000.0
        monkeypatch.setattr(presence, "answer", self._answer)

    def touches(self, show_to: tuple[str, ...] = (CAMERA,), **how: Any) -> Touches:
        people = [self.key.registered("alice", "urn:uuid:viewer")]
        return Touches(people, show_to, False, now=lambda: self.now, **how)

    def _answer(
        self, credentials: list[bytes], challenge: bytes, person: Person, *, verified: bool
    ) -> Answer:
        self.asked.append(challenge)
        self.persons.append(person)
        if self.error is not None:
            raise self.error
        person.told()
        self.blinks.set()
        while not self.at_once and not self.touched.wait(0.01):
            if person.cancelled.is_set() or self.given_up.is_set():
                raise TokenError("fido-untouched", "nobody touched the FIDO2 key", "touch it when it blinks")
        given = self.key.touch(challenge)
        return Answer(given.credential, given.authenticator_data, given.client_data, given.signature)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def wanted(
    missing: tuple[str, ...] = ("vault",), terminal: str = CAMERA, session: bytes = bytes(16)
) -> EvidenceWanted:
    streams = (Stream("camera", "vp8"), Stream("vault", "vp8"))
    peer = Peer(session, terminal, f"CN={terminal[9:]}", bytes(32), frozenset(), "hardware", streams)
    return EvidenceWanted(1, peer, ("camera", "vault"), missing, secrets.token_bytes(32))


async def test_a_touch_is_shown_for_what_is_missing_and_answers_that_request(desk: Desk) -> None:
    touches, request = desk.touches(), wanted()
    shown = (await touches.gather(request)).fido
    assert shown is not None
    person = desk.key.registered("alice", "urn:uuid:viewer")
    given = Answer(shown.credential, shown.authenticator_data, shown.client_data, shown.signature)
    assert verify(person.public_key, request.challenge, given).count == 1
    assert touches.wanted() == []
    # Renewals, with every key held.
    for _ in range(3):
        assert await touches.gather(wanted(())) == Evidence()
    assert len(desk.asked) == 1
    # It lapsed, or the publisher started anew.
    assert (await touches.gather(wanted())).fido is not None
    assert (await touches.gather(wanted(session=b"1" * 16))).fido is not None


async def test_others_are_shown_nothing(desk: Desk) -> None:
    assert await desk.touches().gather(wanted(terminal=OTHER)) == Evidence()
    assert desk.asked == []
    assert (await desk.touches(("*",)).gather(wanted(terminal=OTHER))).fido is not None


async def test_a_touch_in_vain_is_not_asked_for_again_at_every_beacon(desk: Desk) -> None:
    touches = desk.touches()
    assert (await touches.gather(wanted())).fido is not None
    for _ in range(5):
        assert await touches.gather(wanted()) == Evidence()
        desk.now += 7
    desk.now += IN_VAIN
    assert (await touches.gather(wanted())).fido is not None
    assert len(desk.asked) == 2


@pytest.mark.parametrize("late", [False, True])
async def test_where_nobody_touches_the_request_goes_without_and_it_is_told(
    desk: Desk, caplog: pytest.LogCaptureFixture, late: bool
) -> None:
    """The key gives up, or is given up."""
    desk.at_once = False
    if not late:
        desk.given_up.set()
    touches = desk.touches(wait=0.01 if late else 60)
    assert await touches.gather(wanted()) == Evidence()
    assert touches.wanted() == ["CN=camera"]
    assert late or "touch the FIDO2 key: CN=camera wants somebody present" in caplog.text
    # At the next beacon it blinks again.
    desk.given_up.clear()
    desk.touched.set()
    touches.wait = 60
    assert (await touches.gather(wanted())).fido is not None
    assert touches.wanted() == []


async def test_who_waits_and_goes_is_no_longer_told_of(desk: Desk) -> None:
    desk.at_once = False
    touches = desk.touches(wait=0.01)
    await touches.gather(wanted())
    assert touches.wanted() == ["CN=camera"]
    desk.now += WANTED
    assert touches.wanted() == []


async def test_a_request_that_is_no_longer_due_takes_the_key_no_longer(desk: Desk) -> None:
    desk.at_once = False
    touches = desk.touches(wait=60)
    waiting = asyncio.create_task(touches.gather(wanted()))
    assert await asyncio.to_thread(desk.blinks.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert desk.persons[0].cancelled.is_set()
    desk.at_once = True
    assert (await touches.gather(wanted())).fido is not None


async def test_two_publishers_are_touched_for_one_after_the_other(desk: Desk) -> None:
    desk.at_once = False
    touches = desk.touches((CAMERA, OTHER), wait=60)
    both = asyncio.gather(touches.gather(wanted()), touches.gather(wanted(terminal=OTHER, session=b"1" * 16)))
    assert await asyncio.to_thread(desk.blinks.wait, 30)
    assert len(desk.asked) == 1
    assert touches.wanted() == ["CN=camera", "CN=other"]
    desk.touched.set()
    shown = [each.fido for each in await both]
    assert None not in shown
    assert len({each.signature for each in shown if isinstance(each, Assertion)}) == 2


@pytest.mark.parametrize(
    ("reason", "hint"),
    [("fido-absent", "insert it"), ("fido-removed", "insert it"), ("fido-pin-wanted", "fingerprint")],
)
async def test_a_key_that_cannot_be_used_is_said_and_left_alone_for_a_while(
    desk: Desk, reason: str, hint: str
) -> None:
    desk.error = TokenError(reason, "there is no FIDO2 key", "insert it")
    touches = desk.touches()
    with pytest.raises(AgentError) as refused:
        await touches.gather(wanted())
    assert refused.value.reason == reason
    assert hint in refused.value.hint
    assert touches.wanted() == ["CN=camera"]
    desk.error = None
    assert await touches.gather(wanted()) == Evidence()
    desk.now += NO_KEY
    assert (await touches.gather(wanted())).fido is not None


async def test_memory_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SESSIONS", 2)
    touches = desk.touches()
    for number in range(5):
        assert (await touches.gather(wanted(session=bytes([number] * 16)))).fido is not None
    assert len(touches._publishers) == 2
