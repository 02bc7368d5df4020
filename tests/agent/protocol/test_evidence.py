"""What a request shows: read strictly, bound to that request, and handed to the policy as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, kind_of
from dongled.agent.protocol import cbor, evidence, limits
from dongled.agent.protocol.api import Assertion, Evidence, EvidenceWanted
from dongled.agent.protocol.messages import Request
from dongled.agent.protocol.refusal import Refusal

FIDO = Assertion(b"credential", bytes(37), b"", b"signature")
ALL = Evidence((b"one", b"two"), FIDO, (b"certificate",))
NONCE = bytes(16)


def noting(
    asked: list[EvidenceWanted], shown: Evidence | None
) -> Callable[[EvidenceWanted], Evidence | None]:
    """Notes what is asked, and shows this, or nothing yet."""

    def show(wanted: EvidenceWanted) -> Evidence | None:
        asked.append(wanted)
        return shown

    return show


def encoded(shown: Any) -> bytes:
    fields = {"streams": ["camera"], "echo": NONCE, "nonce": NONCE, "counter": 1, "key_seq": 0}
    return cbor.encode({**fields, "evidence": shown})


@pytest.mark.parametrize(
    "shown",
    [Evidence(), ALL, Evidence(ocsp=(b"x",)), Evidence(fido=FIDO), Evidence(attestation=(b"x" * 8192,))],
)
def test_what_is_written_is_read(shown: Evidence) -> None:
    request = Request(("camera",), NONCE, NONCE, 1, 0, shown)
    assert Request.parse(request.encode()) == request
    assert request.encode() == encoded(evidence.to_map(shown))


@pytest.mark.property("P14")
@pytest.mark.parametrize(
    "shown",
    [
        b"",
        None,
        [],
        {0: b""},
        {4: [b"x"]},
        {"1": [b"x"]},
        {1: []},
        {1: b"x"},
        {1: [b""]},
        {1: ["x"]},
        {1: [b"x" * (limits.STAPLE + 1)]},
        {1: [b"%d" % n for n in range(limits.STAPLES + 1)]},
        {1: [b"x", b"x"]},
        {2: []},
        {2: [b"c", bytes(37), b""]},
        {2: [b"c", bytes(37), b"", b"s", b""]},
        {2: [b"", bytes(37), b"", b"s"]},
        {2: [bytes(1024), bytes(37), b"", b"s"]},
        {2: [b"c", bytes(36), b"", b"s"]},
        {2: [b"c", bytes(1025), b"", b"s"]},
        {2: [b"c", bytes(37), bytes(1025), b"s"]},
        {2: [b"c", bytes(37), b"", b""]},
        {2: [b"c", bytes(37), b"", bytes(1025)]},
        {2: [b"c", bytes(37), None, b"s"]},
        {3: []},
        {3: [b"x" * (limits.CERTIFICATE + 1)]},
        {3: [b"%d" % n for n in range(limits.ATTESTATION + 1)]},
        {3: [b"x", b"x"]},
        {3: [bytes([n]) * limits.CERTIFICATE for n in range(3)]},
    ],
)
def test_what_is_not_evidence_is_refused(shown: Any) -> None:
    with pytest.raises(Refusal) as caught:
        Request.parse(encoded(shown))
    assert caught.value.reason == "malformed-request"


def test_the_largest_that_is_allowed_reaches_the_policy() -> None:
    largest = Evidence(
        ocsp=tuple(bytes([n]) * limits.STAPLE for n in range(2)),
        fido=Assertion(bytes(1023), bytes(1024), bytes(1024), bytes(1024)),
        attestation=(bytes(limits.CERTIFICATE), bytes(3_900)),
    )
    room = limits.EVIDENCE - len(cbor.encode(evidence.to_map(largest)))
    assert 0 <= room < 200
    bus = Bus()
    camera, viewer = bus.join("camera", CAMERA), bus.join("viewer")
    viewer.show = lambda wanted: largest
    bus.run(3)
    assert viewer.can_watch(camera)
    assert camera.policy.presented[-1].evidence == largest
    chains = ((b"data certificate",),)
    assert [(c[1:], answer) for c, answer in camera.policy.stapled] == [(chains, a) for a in largest.ocsp]


def test_what_nobody_would_read_is_left_out_and_said() -> None:
    bus = Bus()
    camera, viewer = bus.join("camera", CAMERA), bus.join("viewer")
    viewer.show = lambda wanted: Evidence(attestation=(bytes(limits.CERTIFICATE + 1),))
    bus.run(3)
    assert viewer.can_watch(camera)
    assert viewer.reasons() == {"evidence-unfit"}
    assert camera.policy.presented[-1].evidence == Evidence()


@pytest.mark.property("P4")
def test_the_challenge_is_of_one_request_between_these_two() -> None:
    """No answer of an authenticator is good for another requester, publisher, epoch or moment."""
    bus = Bus()
    cameras = [bus.join(name, CAMERA, want=lambda *_: False) for name in ("camera", "other")]
    viewers = [bus.join(name) for name in ("viewer", "second")]
    asked: list[EvidenceWanted] = []
    for viewer in viewers:
        viewer.show = noting(asked, ALL)
    bus.run(600)
    seen = [presented.challenge for camera in cameras for presented in camera.policy.presented]
    wanted = [each.challenge for each in asked]
    # Each round asks again, and what was granted is judged by what came with its request.
    assert len(wanted) >= 8
    assert len(set(wanted)) == len(wanted)
    assert set(seen) == set(wanted)
    for camera in cameras:
        theirs = {each.challenge for each in asked if each.peer.session == camera.session}
        assert {presented.challenge for presented in camera.policy.presented} <= theirs


@pytest.mark.property("P11")
def test_evidence_of_one_request_does_not_come_with_another() -> None:
    """Neither the bus nor an insider gets a request whose seal it cannot open, or which it did not sign."""
    bus = Bus()
    camera, viewer, insider = bus.join("camera", CAMERA), bus.join("viewer"), bus.join("insider")
    viewer.show = lambda wanted: ALL
    bus.run(3)
    message, shown = forge.last(bus, viewer, "request"), len(camera.policy.presented)
    ctx = forge.epoch_of(insider).context("request", forge.party_of(camera))
    before = len(camera.refused)
    bus.deliver(camera, forge.resign(message, insider, ctx))
    bus.deliver(camera, forge.resign(message, insider, ctx, claim=forge.party_of(viewer).announcement))
    assert [refused.reason for refused in camera.refused[before:]] == ["outer-seal", "signature"]
    bus.run(1)
    bus.deliver(camera, message)
    assert len(camera.policy.presented) == shown


def test_an_unanswered_question_is_asked_anew_and_its_answer_no_longer_taken() -> None:
    bus = Bus()
    camera, viewer = bus.join("camera", CAMERA), bus.join("viewer")
    asked: list[EvidenceWanted] = []
    viewer.show = noting(asked, None)
    bus.run(60)
    assert 2 <= len(asked) <= 5
    assert len({each.challenge for each in asked}) == len(asked)
    viewer.member.evidence(asked[0].operation, ALL, bus.now)
    bus.settle(viewer)
    assert not [m for _, who, m in bus.log if who is viewer and kind_of(m) == "request"]
    viewer.member.evidence(asked[-1].operation, ALL, bus.now)
    bus.settle(viewer)
    bus.run(2)
    assert viewer.can_watch(camera)


def test_whose_keys_changed_meanwhile_is_asked_with_a_fresh_challenge() -> None:
    bus = Bus()
    camera, viewer = bus.join("camera", CAMERA), bus.join("viewer")
    asked: list[EvidenceWanted] = []
    viewer.show = noting(asked, None)
    bus.run(3)
    (first,) = asked
    camera.member._rounds._begin(bus.now)
    bus.settle(camera)
    bus.run(1)
    viewer.show = noting(asked, ALL)
    viewer.member.evidence(first.operation, ALL, bus.now)
    bus.settle(viewer)
    bus.run(3)
    assert len(asked) == 2
    assert viewer.can_watch(camera)
    assert {presented.challenge for presented in camera.policy.presented} == {asked[1].challenge}
