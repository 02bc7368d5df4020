"""Nothing but the certificate that was asked for is accepted, and each refusal says why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from dongled.agent.enrolment.accept import Wanted, accept
from dongled.agent.enrolment.est import EnrolmentError
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import Kind
from support.authority import (
    DAY,
    NOW,
    OTHER_TERMINAL,
    TERMINAL,
    VIEWER,
    Authority,
    der,
    name,
    new_key,
    point,
    uris,
)

ROOT = Authority.root()
KEY = new_key()
VERIFIER = CertificateVerifier([der(ROOT.certificate)], TrustedClock("system", wall=lambda: NOW))


def wanted(kind: Kind = Kind.IDENTITY, **more: Any) -> Wanted:
    return Wanted(kind, point(KEY), TERMINAL, **more)


def refused(
    issued: x509.Certificate,
    want: Wanted | None = None,
    authorities: tuple[x509.Certificate, ...] = (ROOT.certificate,),
    verifier: CertificateVerifier = VERIFIER,
) -> str:
    with pytest.raises(EnrolmentError) as caught:
        accept(issued, authorities, want or wanted(), verifier)
    return caught.value.reason


def test_good_ones() -> None:
    identity, data = ROOT.leaf(KEY), ROOT.data_leaf(KEY)
    assert accept(identity, [], wanted(subject="CN=terminal"), VERIFIER) == [der(identity)]
    assert accept(data, [], wanted(Kind.DATA), VERIFIER) == [der(data)]
    assert accept(identity, [], wanted(after=NOW), VERIFIER) == [der(identity)]


def test_intermediates_are_filled_in_and_never_trusted() -> None:
    upper = ROOT.intermediate("upper", path_length=1)
    lower = upper.intermediate("lower")
    leaf = lower.leaf(KEY)
    brought = [ROOT.certificate, upper.certificate, lower.certificate]
    assert accept(leaf, brought, wanted(), VERIFIER) == [
        der(leaf),
        der(lower.certificate),
        der(upper.certificate),
    ]
    assert refused(leaf, authorities=(upper.certificate,)) == "chain-untrusted"
    # An authority that the server alone vouches for.
    stranger = Authority.root("stranger")
    assert refused(stranger.leaf(KEY), authorities=(stranger.certificate,)) == "chain-untrusted"
    # An end: two authorities that certified each other.
    left, right = Authority.root("left"), Authority.root("right")
    crossed = [
        Authority.intermediate(a, b.certificate.subject.rfc4514_string()[3:], b.key).certificate
        for a, b in ((left, right), (right, left))
    ]
    assert refused(left.leaf(KEY), authorities=tuple(crossed)) == "chain-untrusted"


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        (ROOT.leaf(new_key()), "est-other-key"),
        (ROOT.leaf(KEY, san=uris(OTHER_TERMINAL)), "est-other-terminal"),
        (ROOT.leaf(KEY, san=uris(TERMINAL, OTHER_TERMINAL)), "est-other-terminal"),
        (ROOT.leaf(KEY, without=[x509.SubjectAlternativeName]), "est-other-terminal"),
        (ROOT.leaf(KEY, begin=NOW - 2 * DAY, end=NOW - DAY), "expired"),
        (ROOT.leaf(KEY, begin=NOW + timedelta(hours=1)), "not-yet-valid"),
        (ROOT.data_leaf(KEY), "wrong-usage"),
        (ROOT.leaf(KEY, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "wrong-extended-usage"),
        (ROOT.leaf(KEY, ca=True), "leaf-is-ca"),
        (ROOT.leaf(KEY, policies=VIEWER[1:]), "no-role"),
        (ROOT.leaf(KEY, subject=name("somebody")), "est-other-subject"),
        (ROOT.leaf(KEY, end=NOW + timedelta(hours=1)), "est-not-newer"),
    ],
)
def test_each_refusal(issued: x509.Certificate, reason: str) -> None:
    want = wanted(subject="CN=terminal", after=NOW + timedelta(hours=1))
    assert refused(issued, want) == reason


def odd(certificate: x509.Certificate) -> x509.Certificate:
    """Its key on prime239v3, which cryptography does not know: what it says of that is no ValueError."""
    prime256v1, prime239v3 = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106")
    return x509.load_der_x509_certificate(der(certificate).replace(prime256v1, prime239v3))


def test_what_cryptography_cannot_read_is_refused_and_no_defect() -> None:
    assert refused(odd(ROOT.leaf(KEY))) == "est-other-key"
    x400 = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex("3004a3023000"))
    named = ROOT.leaf(KEY, without=[x509.SubjectAlternativeName], extra=[(x400, False)])
    assert refused(named) == "est-other-terminal"
    # Of the platform's authorities, one that has nothing to do with it: a post-quantum one of the same name.
    lower = ROOT.intermediate("lower")
    brought = [odd(lower.certificate), lower.certificate]
    assert accept(lower.leaf(KEY), brought, wanted(), VERIFIER)[1] == der(lower.certificate)


def test_of_two_the_later_one_counts_so_a_renewal_begins_no_earlier() -> None:
    """Else it would be kept and never be in use, and be asked for again at once."""
    old: dict[str, Any] = {"after": NOW - DAY, "begun": NOW - timedelta(hours=2)}
    assert refused(ROOT.leaf(KEY, begin=NOW - timedelta(hours=3)), wanted(**old)) == "est-not-newer"
    assert accept(ROOT.leaf(KEY, begin=NOW - timedelta(hours=2)), [], wanted(**old), VERIFIER)


def test_no_role_is_needed_for_data_and_no_identity_passes_for_it() -> None:
    assert refused(ROOT.leaf(KEY), wanted(Kind.DATA)) == "wrong-usage"


def test_without_trusted_time_nothing_is_accepted() -> None:
    blind = CertificateVerifier([der(ROOT.certificate)], TrustedClock("untrusted", wall=lambda: NOW))
    assert refused(ROOT.leaf(KEY), verifier=blind) == "time-untrusted"
