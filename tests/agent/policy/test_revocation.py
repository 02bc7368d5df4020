"""The verdict: what is not known to be good is refused, and nothing old or less brings a revoked one back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.x509 import ocsp

from dongled.agent.policy.api import PolicyRefused, PolicyUndecided
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, ROLE_OIDS, Assurance
from dongled.agent.policy.revocation import (
    MAX_KNOWN,
    Answer,
    Mode,
    Pair,
    Revocations,
    Source,
    Status,
    pairs_of,
)
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import DAY, NOW, TERMINAL, Authority, der, new_key, pem, point
from support.evidence import SHOWN
from support.platform import HOUR, ocsp_answer

pytestmark = pytest.mark.property("P3")

ROOT = Authority.root(end=NOW + 365 * DAY)
MIDDLE = ROOT.intermediate()
LEAF = MIDDLE.leaf()
PATH = (LEAF, MIDDLE.certificate, ROOT.certificate)
LEAF_PAIR, MIDDLE_PAIR = pairs_of(PATH)
UNREACHABLE = PolicyRefused("revocation-unreachable", "dead")


def answer(
    status: Status = Status.GOOD, source: Source = Source.OCSP, at: datetime = NOW, lasts: timedelta = HOUR
) -> Answer:
    return Answer(source, status, at, at + lasts, at)


def known(mode: Mode = Mode.EITHER, grace: timedelta = timedelta(0)) -> Revocations:
    """What is known once the intermediate is known to be good, for long."""
    revocations = Revocations(mode, grace=grace)
    revocations.learn(MIDDLE_PAIR, answer(source=mode.sources[0], lasts=100 * DAY))
    return revocations


def refusal(revocations: Revocations, now: datetime = NOW) -> str:
    with pytest.raises(PolicyRefused) as caught:
        revocations.check(PATH, now)
    return caught.value.reason


def test_what_is_not_known_is_refused_and_asked_for() -> None:
    asked: list[Pair] = []
    revocations = Revocations(Mode.EITHER)
    revocations.asked = asked.append
    assert refusal(revocations) == "revocation-pending"
    assert [pair.key for pair in asked] == [LEAF_PAIR.key, MIDDLE_PAIR.key]


def test_what_may_be_known_in_a_moment_is_undecided_and_what_is_known_is_not() -> None:
    revocations = known()
    with pytest.raises(PolicyUndecided):
        revocations.check(PATH, NOW)
    revocations.failed(LEAF_PAIR, Source.OCSP, UNREACHABLE)
    with pytest.raises(PolicyUndecided):
        revocations.check(PATH, NOW)
    for status in (Status.UNKNOWN, Status.REVOKED):
        revocations.learn(LEAF_PAIR, answer(status))
        with pytest.raises(PolicyRefused) as caught:
            revocations.check(PATH, NOW)
        assert not isinstance(caught.value, PolicyUndecided)


def test_each_certificate_of_the_path_must_be_good() -> None:
    revocations = Revocations(Mode.OCSP)
    revocations.learn(LEAF_PAIR, answer())
    assert refusal(revocations) == "revocation-pending"
    revocations.learn(MIDDLE_PAIR, answer(Status.REVOKED))
    assert refusal(revocations) == "revoked"
    revocations.learn(MIDDLE_PAIR, answer(at=NOW + HOUR / 60))
    revocations.check(PATH, NOW)


def test_off_asks_nobody_and_a_path_of_nothing_is_not_good() -> None:
    Revocations(Mode.OFF).check(PATH, NOW)
    for path in ((), (ROOT.certificate,)):
        with pytest.raises(PolicyRefused) as caught:
            known().check(path, NOW)
        assert caught.value.reason == "revocation-pending"


def test_a_serial_is_its_issuers() -> None:
    other = ROOT.intermediate()
    assert Pair(LEAF, MIDDLE.certificate).key != Pair(LEAF, other.certificate).key
    renewed = ROOT.intermediate(key=MIDDLE.key)
    assert Pair(LEAF, MIDDLE.certificate).key == Pair(LEAF, renewed.certificate).key


@pytest.mark.parametrize("source", list(Source))
def test_revoked_wins_over_the_others_good_and_never_runs_out(source: Source) -> None:
    revocations = known()
    (other,) = set(Source) - {source}
    revocations.learn(LEAF_PAIR, answer(Status.REVOKED, source))
    revocations.learn(LEAF_PAIR, answer(source=other, lasts=100 * DAY))
    assert refusal(revocations) == "revoked"
    assert refusal(revocations, NOW + 30 * DAY) == "revoked"


def test_unknown_is_not_good() -> None:
    revocations = known()
    revocations.learn(LEAF_PAIR, answer(Status.UNKNOWN))
    revocations.learn(LEAF_PAIR, answer(source=Source.CRL))
    assert refusal(revocations) == "ocsp-unknown"


def test_a_good_answer_runs_out() -> None:
    revocations = known()
    revocations.learn(LEAF_PAIR, answer())
    revocations.check(PATH, NOW + HOUR)
    late = NOW + HOUR + timedelta(seconds=1)
    assert refusal(revocations, late) == "ocsp-stale"
    revocations.failed(LEAF_PAIR, Source.OCSP, UNREACHABLE)
    assert refusal(revocations, late) == "revocation-unreachable"
    revocations.learn(LEAF_PAIR, answer(source=Source.CRL, lasts=2 * HOUR))
    revocations.check(PATH, late)


def test_the_operators_grace_and_its_end() -> None:
    revocations = known(grace=HOUR)
    assert refusal(revocations) == "revocation-pending"
    revocations.learn(LEAF_PAIR, answer())
    revocations.failed(LEAF_PAIR, Source.OCSP, UNREACHABLE)
    revocations.check(PATH, NOW + 2 * HOUR)
    assert refusal(revocations, NOW + 2 * HOUR + timedelta(seconds=1)) == "revocation-unreachable"
    revocations.learn(LEAF_PAIR, answer(Status.REVOKED, at=NOW + HOUR))
    assert refusal(revocations, NOW + HOUR) == "revoked"


def test_grace_is_none_for_what_is_unknown_meanwhile() -> None:
    revocations = known(grace=10 * HOUR)
    revocations.learn(LEAF_PAIR, answer())
    revocations.learn(LEAF_PAIR, answer(Status.UNKNOWN, at=NOW + HOUR))
    assert refusal(revocations, NOW + HOUR) == "ocsp-unknown"
    assert refusal(revocations, NOW + 5 * HOUR) == "ocsp-stale"


@pytest.mark.parametrize("source", list(Source))
def test_an_older_answer_is_a_replay(source: Source) -> None:
    revocations = known()
    revocations.learn(LEAF_PAIR, answer(Status.REVOKED, source))
    with pytest.raises(PolicyRefused) as caught:
        revocations.learn(LEAF_PAIR, answer(source=source, at=NOW - HOUR / 60, lasts=DAY))
    assert caught.value.reason == f"{source}-replayed"
    assert refusal(revocations) == "revoked"


def test_of_the_same_second_the_worse_stands() -> None:
    revocations = known()
    revocations.learn(LEAF_PAIR, answer())
    revocations.learn(LEAF_PAIR, answer(Status.REVOKED))
    revocations.learn(LEAF_PAIR, answer())
    assert refusal(revocations) == "revoked"


def test_a_failure_takes_nothing_back_and_a_success_forgets_it() -> None:
    revocations = known()
    revocations.failed(LEAF_PAIR, Source.OCSP, UNREACHABLE)
    assert refusal(revocations) == "revocation-unreachable"
    revocations.learn(LEAF_PAIR, answer())
    assert refusal(revocations, NOW + DAY) == "ocsp-stale"
    revocations.failed(LEAF_PAIR, Source.OCSP, UNREACHABLE)
    revocations.check(PATH, NOW)
    revocations.failed(LEAF_PAIR, Source.CRL, PolicyRefused("revocation-no-source", "none"))
    assert refusal(revocations, NOW + DAY) == "revocation-unreachable"


def test_it_remembers_a_bounded_number() -> None:
    revocations = known()
    for _ in range(3):
        revocations.learn(LEAF_PAIR, answer())
    revocations.check(PATH, NOW)
    pair = replace(LEAF_PAIR)
    for serial in range(MAX_KNOWN):
        pair = replace(LEAF_PAIR)
        pair.__dict__["key"] = serial.to_bytes(64)
        revocations.learn(pair, answer())
    assert revocations.held(pair)
    assert refusal(revocations) == "revocation-pending"


# --- as the policy -----------------------------------------------------------------------------------

IDENTITY_KEY, DATA_KEY = new_key(), new_key()
SOFTWARE = (ASSURANCE_OIDS[Assurance.SOFTWARE],)
IDENTITY = ROOT.leaf(IDENTITY_KEY, policies=(*ROLE_OIDS.values(), *SOFTWARE))
DATA = ROOT.data_leaf(DATA_KEY, policies=SOFTWARE)
GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


class Asked:
    """A policy that asks for revocation, with a clock to turn."""

    def __init__(self, mode: Mode = Mode.OCSP) -> None:
        self.time = NOW
        self.clock = TrustedClock("system", wall=lambda: self.time, steady=lambda: 0.0)
        self.revocations = Revocations(mode)
        self.policy = CertificatePolicy(
            [pem(ROOT.certificate)],
            self.clock,
            allow_viewers=[TERMINAL],
            allow_publishers=[TERMINAL],
            revocations=self.revocations,
            max_age=DAY,
        )

    def refusal(self, call: Any, *arguments: Any) -> str:
        with pytest.raises(PolicyRefused) as caught:
            call(*arguments)
        return caught.value.reason


def test_a_terminal_brings_its_own_answers() -> None:
    here = Asked()
    assert here.refusal(here.policy.check_identity, [der(IDENTITY)]) == "revocation-pending"
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY)])
    known = here.policy.check_identity([der(IDENTITY)])
    here.policy.may_view(known, "camera", SHOWN)
    here.policy.may_publish(known)


def test_a_revoked_data_key_is_refused() -> None:
    here = Asked()
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY)])
    known = here.policy.check_identity([der(IDENTITY)])
    asked = (known, [der(DATA)], point(DATA_KEY))
    assert here.refusal(here.policy.check_data_key, *asked) == "revocation-pending"
    here.policy.staple([[der(DATA)]], [ocsp_answer(ROOT, DATA, REVOKED)])
    assert here.refusal(here.policy.check_data_key, *asked) == "revoked"


def test_revoked_in_mid_meeting_and_no_replay_brings_it_back() -> None:
    here = Asked()
    good = ocsp_answer(ROOT, IDENTITY)
    here.policy.staple([[der(IDENTITY)]], [good])
    known = here.policy.check_identity([der(IDENTITY)])
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY, REVOKED, this_update=NOW)])
    assert here.refusal(here.policy.may_view, known, "camera", SHOWN) == "revoked"
    assert here.refusal(here.policy.may_publish, known) == "revoked"
    assert here.refusal(here.policy.check_identity, [der(IDENTITY)]) == "revoked"
    here.policy.staple([[der(IDENTITY)]], [good])
    assert here.refusal(here.policy.may_view, known, "camera", SHOWN) == "revoked"


def test_an_answer_that_runs_out_in_mid_meeting() -> None:
    here = Asked()
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY)])
    known = here.policy.check_identity([der(IDENTITY)])
    here.time = NOW + 2 * HOUR
    assert here.refusal(here.policy.may_view, known, "camera", SHOWN) == "ocsp-stale"


def test_what_was_brought_is_checked_like_what_was_fetched() -> None:
    here = Asked()
    other = Authority.root()
    stale = ocsp_answer(ROOT, IDENTITY, this_update=NOW - 2 * DAY, next_update=None)
    for data, reason in (
        (b"junk", "ocsp-garbage"),
        (stale, "ocsp-stale"),
        (ocsp_answer(ROOT, DATA), "ocsp-other-certificate"),
        (ocsp_answer(other, IDENTITY), "ocsp-other-certificate"),
    ):
        assert here.refusal(here.policy.staple, [[der(IDENTITY)]], [data]) == reason
    answers = [ocsp_answer(ROOT, IDENTITY)] * 9
    assert here.refusal(here.policy.staple, [[der(IDENTITY)]], answers) == "ocsp-too-large"
    assert here.refusal(here.policy.staple, [[der(other.leaf())]], answers[:1]) == "chain-untrusted"
    assert here.refusal(here.policy.check_identity, [der(IDENTITY)]) == "revocation-pending"


def test_a_bad_answer_costs_the_good_one_beside_it_nothing() -> None:
    here = Asked()
    answers = [b"junk", ocsp_answer(ROOT, DATA), ocsp_answer(ROOT, IDENTITY)]
    assert here.refusal(here.policy.staple, [[der(IDENTITY)], [der(DATA)]], answers) == "ocsp-garbage"
    known = here.policy.check_identity([der(IDENTITY)])
    assert here.policy.check_data_key(known, [der(DATA)], point(DATA_KEY)) == "software"


def test_what_is_stapled_is_what_the_responder_said_while_it_lasts() -> None:
    here, chains = Asked(), [[der(IDENTITY)], [der(DATA)], []]
    asked: list[Pair] = []
    here.revocations.asked = asked.append
    assert here.policy.known_answers(chains) == []
    assert [pair.certificate for pair in asked] == [IDENTITY, DATA]
    answers = [ocsp_answer(ROOT, IDENTITY), ocsp_answer(ROOT, DATA)]
    here.policy.staple(chains, answers)
    assert here.policy.known_answers(chains) == answers
    here.time = NOW + 2 * HOUR
    assert here.policy.known_answers(chains) == []
    lasts: Any = {"this_update": here.time, "next_update": here.time + HOUR}
    good, revoked = ocsp_answer(ROOT, IDENTITY, **lasts), ocsp_answer(ROOT, DATA, REVOKED, **lasts)
    here.policy.staple(chains, [good, revoked])
    assert here.policy.known_answers(chains) == [good]
    assert Asked(Mode.CRL).policy.known_answers(chains) == []


def test_where_lists_alone_are_looked_at_nobody_brings_an_answer() -> None:
    here = Asked(Mode.CRL)
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY)])
    assert here.refusal(here.policy.check_identity, [der(IDENTITY)]) == "revocation-pending"


def test_an_identity_that_nobody_verified_gets_nothing() -> None:
    here = Asked()
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY)])
    known = replace(here.policy.check_identity([der(IDENTITY)]), path=())
    assert here.refusal(here.policy.may_view, known, "camera", SHOWN) == "revocation-pending"


def test_what_the_platform_signed_is_a_floor() -> None:
    here = Asked()
    here.policy.staple([[der(IDENTITY)]], [ocsp_answer(ROOT, IDENTITY)])
    assert here.clock.floor == NOW - HOUR
    restarted = TrustedClock("system", floor=here.clock.floor, wall=lambda: NOW - DAY)
    assert here.refusal(restarted.now) == "time-below-floor"
