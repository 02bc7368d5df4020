"""The corner cases of x509-limbo, a public suite (tests/vectors/limbo/SOURCE.md).

Whatever it wants refused must be refused. What it wants accepted is accepted, but for what the profile does
not allow, each case by name.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.crl import verify_crl
from dongled.agent.policy.revocation import Mode, Revocations, pairs_of

pytestmark = [
    pytest.mark.property("P3"),
    # The suite has serial numbers and names that cryptography reads only with a grumble.
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]

VECTORS = Path(__file__).parents[2] / "vectors" / "limbo" / "cases.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())
WHEN_MADE = datetime(2026, 11, 23, tzinfo=UTC)

ISSUERS_DUTY = "an issuer must write it, and no path depends on it"
LATER = "steps 8 to 10 look at it, and refuse"
BROWSERS = "a rule among browsers alone"

# What the suite wants refused, and the path and its revocation do not refuse.
ELSEWHERE = {
    "pathlen::max-chain-depth-0-exhausted": "it asks for a limit of its own, which is no setting here",
    "rfc5280::aki::intermediate-missing-aki": ISSUERS_DUTY,
    "rfc5280::aki::cross-signed-root-missing-aki": ISSUERS_DUTY,
    "rfc5280::ski::root-missing-ski": ISSUERS_DUTY,
    "rfc5280::ski::intermediate-missing-ski": ISSUERS_DUTY,
    "crl::crlnumber-missing": ISSUERS_DUTY,
    "crl::crlnumber-critical": ISSUERS_DUTY,
    "rfc5280::pc::ica-noncritical-pc": LATER,
    "rfc5280::san::underscore-dns": LATER,
    "rfc5280::san::ip-in-dns": LATER,
    "webpki::eku::ee-without-eku": LATER,
    "webpki::eku::ee-anyeku": BROWSERS,
    "webpki::eku::root-has-eku": BROWSERS,
    "webpki::aki::root-with-aki-all-fields": BROWSERS,
    "webpki::aki::root-with-aki-ski-mismatch": BROWSERS,
}

# What the suite would accept, and this profile refuses: with which reason.
STRICTER = {
    "webpki::cryptographydotio-chain": "bad-root",  # RSA
    "cve::cve-2024-0567": "chain-too-long",
    "pathlen::self-issued-certs-pathlen": "chain-untrusted",  # longer than a chain may be here
    "pathlen::intermediate-pathlen-may-increase": "chain-disorder",
    "pathlen::max-chain-depth-1-self-issued": "chain-disorder",
    "pathological::multiple-chains-expired-intermediate": "chain-disorder",
    "rfc5280::nc::nc-forbids-alternate-chain-ica": "chain-disorder",
    "rfc5280::nc::nc-forbids-same-chain-ica": "chain-disorder",
    "rfc5280::unknown-critical-extension-unrelated-intermediate": "chain-disorder",
    "rfc5280::root-and-intermediate-swapped": "chain-disorder",
    "pathlen::validation-ignores-pathlen-in-leaf": "leaf-is-ca",
    "rfc5280::ca-as-leaf": "leaf-is-ca",
    "rfc5280::nc::permitted-dn-match": "name-constraints",  # of a kind that the path's verifier lacks
    "webpki::nc::permitted-dns-match-noncritical": "name-constraints",
    "crl::issuer-no-keyusage-extension": "missing-extension",
    "crl::certificate-serial-on-crl-different-issuer": "crl-other-issuer",
}


class At(TrustedClock):
    """Tells one time, whatever the floor."""

    def __init__(self, time: datetime) -> None:
        super().__init__()
        self._time = time

    def now(self) -> datetime:
        return self._time


def judge(case: dict[str, Any]) -> str:
    """The reason of refusal, or ``ok``."""
    time = datetime.fromisoformat(case["time"]) if case["time"] else WHEN_MADE
    try:
        verifier = CertificateVerifier(decoded(case["roots"]), At(time))
        path, now = verifier.path(decoded(case["chain"]))
        if case["crls"]:
            judge_crls(decoded(case["crls"]), path, now)
    except (PolicyRefused, AgentError) as error:
        return error.reason
    return "ok"


def judge_crls(crls: list[bytes], path: list[x509.Certificate], now: datetime) -> None:
    revocations = Revocations(Mode.CRL)
    for data in crls:
        for pair in pairs_of(path):
            revocations.learn(pair, verify_crl(data, pair.issuer, now, timedelta(days=36_500)).answer(pair))
    revocations.check(path, now)


def decoded(texts: list[str]) -> list[bytes]:
    return [base64.b64decode(text) for text in texts]


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case["accept"]], ids=lambda case: str(case["id"])
)
def test_what_must_be_refused_is(case: dict[str, Any]) -> None:
    assert (judge(case) == "ok") == (case["id"] in ELSEWHERE)


@pytest.mark.parametrize("case", [case for case in CASES if case["accept"]], ids=lambda case: str(case["id"]))
def test_what_may_be_accepted_is_unless_the_profile_says_otherwise(case: dict[str, Any]) -> None:
    assert judge(case) == STRICTER.get(case["id"], "ok")


def test_the_suite_is_there() -> None:
    """150 cases and more, some of them good: a list that lost its cases proves nothing."""
    assert len(CASES) > 150
    assert sum(judge(case) == "ok" for case in CASES if case["accept"]) >= 30
    assert {*ELSEWHERE, *STRICTER} <= {case["id"] for case in CASES}
