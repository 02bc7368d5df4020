"""The policy as the grant protocol asks it: identity, data key, publishing, viewing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import CheckedCertificate, Policy, PolicyRefused, PolicyUndecided
from dongled.agent.policy.authorizer.api import Question
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance, Role
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import (
    DAY,
    NOW,
    OTHER_TERMINAL,
    TERMINAL,
    Authority,
    der,
    name,
    new_key,
    pem,
    point,
    uris,
)
from support.evidence import SHOWN

pytestmark = pytest.mark.property("P3")

ROOT = Authority.root(end=NOW + 365 * DAY)
IDENTITY_KEY = new_key()
DATA_KEY = new_key()
SOFTWARE = (ASSURANCE_OIDS[Assurance.SOFTWARE],)
HARDWARE = (ASSURANCE_OIDS[Assurance.HARDWARE],)
BOTH_ROLES = (ROLE_OIDS[Role.PUBLISHER], ROLE_OIDS[Role.VIEWER])


class Wall:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


def policy(wall: Callable[[], datetime] = lambda: NOW, **how: Any) -> CertificatePolicy:
    how = {"allow_viewers": [TERMINAL], "allow_publishers": [TERMINAL], **how}
    return CertificatePolicy([pem(ROOT.certificate)], TrustedClock("system", wall=wall), **how)


def identity(
    roles: tuple[Any, ...] = BOTH_ROLES, assurance: tuple[Any, ...] = SOFTWARE, **how: Any
) -> list[bytes]:
    return [der(ROOT.leaf(IDENTITY_KEY, policies=(*roles, *assurance), **how))]


def data(key: Any = DATA_KEY, assurance: tuple[Any, ...] = HARDWARE, **how: Any) -> list[bytes]:
    return [der(ROOT.data_leaf(key, policies=assurance, **how))]


def refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(PolicyRefused) as caught:
        call(*arguments)
    assert str(caught.value)
    return caught.value.reason


def test_a_listed_terminal_may_publish_and_view() -> None:
    here: Policy = policy()
    checked = here.check_identity(identity())
    assert checked.terminal == TERMINAL
    assert checked.roles == {"publisher", "viewer"}
    assert len(checked.leaf) == 32
    here.may_publish(checked)
    here.may_view(checked, "camera", SHOWN)


def test_what_cannot_be_recorded_is_not_granted_and_the_authorizer_not_asked() -> None:
    """``audit.required``, and a log that cannot be written. Who may be watched is another matter."""

    class Nobody:
        def decide(self, question: Question, stream: str) -> str:
            raise AssertionError("asked")

    def unwritable() -> None:
        raise PolicyUndecided("audit-failed", "the disk is full")

    asked: Any = Nobody()
    for authorizer in (None, asked):
        here = policy(recorded=unwritable, authorizer=authorizer)
        checked = here.check_identity(identity())
        assert refusal(here.may_view, checked, "camera", SHOWN) == "audit-failed"
        here.may_publish(checked)


# --- roles and lists -------------------------------------------------------------------------------


def test_each_role_is_for_one_thing() -> None:
    here = policy()
    publisher = here.check_identity(identity((ROLE_OIDS[Role.PUBLISHER],)))
    here.may_publish(publisher)
    assert refusal(here.may_view, publisher, "camera", SHOWN) == "wrong-role"
    viewer = here.check_identity(identity((ROLE_OIDS[Role.VIEWER],)))
    here.may_view(viewer, "camera", SHOWN)
    assert refusal(here.may_publish, viewer) == "wrong-role"
    moderator = here.check_identity(identity((ROLE_OIDS[Role.MODERATOR],)))
    assert refusal(here.may_publish, moderator) == "wrong-role"
    assert refusal(here.may_view, moderator, "camera", SHOWN) == "wrong-role"


def test_a_certificate_without_a_role_is_nobodys() -> None:
    assert refusal(policy().check_identity, identity(())) == "no-role"


def test_nobody_is_allowed_by_default() -> None:
    here = policy(allow_viewers=(), allow_publishers=())
    checked = here.check_identity(identity())
    assert refusal(here.may_view, checked, "camera", SHOWN) == "viewer-not-allowed"
    assert refusal(here.may_publish, checked) == "publisher-not-allowed"


def test_the_two_lists_are_apart() -> None:
    here = policy(allow_viewers=[TERMINAL], allow_publishers=[OTHER_TERMINAL])
    checked = here.check_identity(identity())
    here.may_view(checked, "camera", SHOWN)
    assert refusal(here.may_publish, checked) == "publisher-not-allowed"


def test_everybody_must_be_written_out() -> None:
    here = policy(allow_viewers=["*"], allow_publishers=["*"])
    checked = here.check_identity(identity())
    here.may_view(checked, "camera", SHOWN)
    here.may_publish(checked)


@pytest.mark.parametrize(
    "entry", ["", "**", "all", TERMINAL.upper(), TERMINAL[:-1], TERMINAL[9:], "urn:uuid:*", TERMINAL + "\n"]
)
def test_a_list_that_nobody_can_match_is_an_error_and_not_silence(entry: str) -> None:
    with pytest.raises(AgentError) as caught:
        policy(allow_viewers=[entry])
    assert caught.value.reason == "bad-allow-list"
    assert caught.value.hint


def test_an_unknown_assurance_is_an_error() -> None:
    with pytest.raises(AgentError) as caught:
        policy(minimum_assurance="plutonium")
    assert caught.value.reason == "bad-assurance"


# --- the data key ----------------------------------------------------------------------------------


def checked(assurance: tuple[Any, ...] = SOFTWARE) -> CheckedCertificate:
    return policy().check_identity(identity(assurance=assurance))


def test_a_certified_data_key_has_its_certificates_assurance() -> None:
    assert policy().check_data_key(checked(), data(), point(DATA_KEY)) == "hardware"
    assert policy().check_data_key(checked(), data(assurance=SOFTWARE), point(DATA_KEY)) == "software"


def test_an_announced_data_key_is_software_whatever_the_identity_is() -> None:
    assert policy().check_data_key(checked(HARDWARE), [], point(DATA_KEY)) == "software"


@pytest.mark.parametrize(
    ("chain", "announced", "reason"),
    [
        (lambda: data(), point(new_key()), "data-key-mismatch"),
        (lambda: data(san=uris(OTHER_TERMINAL)), point(DATA_KEY), "data-terminal-mismatch"),
        (lambda: data(subject=name("another")), point(DATA_KEY), "data-subject-mismatch"),
        (lambda: identity(), point(DATA_KEY), "wrong-usage"),
        (lambda: data(end=NOW - DAY / 2), point(DATA_KEY), "expired"),
        (lambda: [der(Authority.root().data_leaf(DATA_KEY))], point(DATA_KEY), "chain-untrusted"),
        (lambda: data(IDENTITY_KEY), point(IDENTITY_KEY), "key-reused"),
        (list, point(IDENTITY_KEY), "key-reused"),
        (list, b"", "bad-point"),
        (list, b"\x00", "bad-point"),
        (list, point(DATA_KEY)[:-1], "bad-point"),
        (list, point(DATA_KEY)[:-1] + bytes([point(DATA_KEY)[-1] ^ 1]), "bad-point"),
        (list, b"\x04" + bytes(64), "bad-point"),
        (list, b"\x02" + point(DATA_KEY)[1:33], "bad-point"),
    ],
    ids=[
        "another key",
        "another terminal's",
        "another subject's",
        "an identity's",
        "expired",
        "another root's",
        "the identity key, certified",
        "the identity key, announced",
        "empty",
        "infinity",
        "short",
        "off the curve",
        "zeros",
        "compressed",
    ],
)
def test_data_keys_refused(chain: Callable[[], list[bytes]], announced: bytes, reason: str) -> None:
    assert refusal(policy().check_data_key, checked(), chain(), announced) == reason


def test_the_minimum_assurance_holds_for_both_keys() -> None:
    here = policy(minimum_assurance="hardware")
    assert refusal(here.check_identity, identity(assurance=SOFTWARE)) == "assurance-too-low"
    assert refusal(here.check_identity, identity(assurance=())) == "assurance-too-low"
    hard = here.check_identity(identity(assurance=HARDWARE))
    assert here.check_data_key(hard, data(), point(DATA_KEY)) == "hardware"
    assert (
        refusal(here.check_data_key, hard, data(assurance=SOFTWARE), point(DATA_KEY)) == "assurance-too-low"
    )
    assert refusal(here.check_data_key, hard, [], point(DATA_KEY)) == "assurance-too-low"


# --- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), "time-below-floor"),
        (NOW - 2 * DAY, "not-yet-valid"),
        (NOW + 360 * DAY, "expired"),
    ],
    ids=["in 1970", "a day before the certificate", "a year ahead"],
)
def test_a_wrong_clock_grants_nothing(time: datetime, reason: str) -> None:
    assert refusal(policy(lambda: time).check_identity, identity()) == reason


def test_without_trusted_time_nothing_is_granted() -> None:
    untrusted = CertificatePolicy(
        [pem(ROOT.certificate)], TrustedClock(), allow_viewers=["*"], allow_publishers=["*"]
    )
    assert refusal(untrusted.check_identity, identity()) == "time-untrusted"
    known = checked()
    assert refusal(untrusted.may_view, known, "camera", SHOWN) == "time-untrusted"
    assert refusal(untrusted.may_publish, known) == "time-untrusted"
    assert refusal(untrusted.check_data_key, known, data(), point(DATA_KEY)) == "time-untrusted"


def test_what_expires_in_mid_meeting_gets_no_more_keys_and_no_clock_brings_it_back() -> None:
    wall = Wall()
    here = policy(wall)
    known = here.check_identity(identity(end=NOW + timedelta(minutes=30)))
    here.may_view(known, "camera", SHOWN)
    wall.time = NOW + timedelta(minutes=31)
    assert refusal(here.may_view, known, "camera", SHOWN) == "expired"
    assert refusal(here.may_publish, known) == "expired"
    wall.time = NOW - DAY
    assert refusal(here.may_view, known, "camera", SHOWN) == "time-below-floor"


def test_an_intermediates_end_is_the_terminals_too() -> None:
    wall = Wall()
    here = policy(wall)
    middle = ROOT.intermediate(end=NOW + timedelta(minutes=30))
    leaf = middle.leaf(policies=(*BOTH_ROLES, *SOFTWARE))
    known = here.check_identity([der(leaf), der(middle.certificate)])
    wall.time = NOW + timedelta(minutes=31)
    assert refusal(here.may_view, known, "camera", SHOWN) == "expired"


def test_a_certificate_of_unknown_end_gets_nothing() -> None:
    unknown = replace(checked(), valid_until=None)
    assert refusal(policy().may_view, unknown, "camera", SHOWN) == "expired"
