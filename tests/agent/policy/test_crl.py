"""Revocation lists that must not be believed, each refused with its own reason, beside those that must."""

from __future__ import annotations

import contextlib
from typing import Any

import asn1crypto.crl  # type: ignore[import-untyped]  # it brings no types
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.crl import MAX_CRL, VerifiedCrl, distribution_urls, verify_crl
from dongled.agent.policy.revocation import SKEW, Pair, Status
from support.authority import DAY, NOW, Authority, name, usage
from support.platform import HOUR, OTHER_KEY, crl, distribution, scope

pytestmark = pytest.mark.property("P3")

ROOT = Authority.root(end=NOW + 365 * DAY)
MUTE = Authority.root("mute", key_usage=usage("key_cert_sign"))
RSA = Authority.root("rsa", key=rsa.generate_private_key(65537, 2048))
LEAF, OTHER = ROOT.leaf(), ROOT.leaf()
WHOLE = crl(ROOT, [LEAF])
PAIR = Pair(LEAF, ROOT.certificate)


def verify(data: bytes, authority: Authority = ROOT, now: Any = NOW) -> VerifiedCrl:
    return verify_crl(data, authority.certificate, now, 7 * DAY)


def refusal(data: bytes, authority: Authority = ROOT, now: Any = NOW) -> str:
    with pytest.raises(PolicyRefused) as caught:
        verify(data, authority, now)
    return caught.value.reason


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_who_is_on_the_list_and_who_is_not(encoding: Encoding) -> None:
    found = verify(crl(ROOT, [OTHER], encoding=encoding))
    assert found.answer(PAIR).status is Status.GOOD
    assert found.fresh_until == NOW + DAY
    revoked = found.answer(Pair(OTHER, ROOT.certificate))
    assert revoked.status is Status.REVOKED
    assert "keyCompromise" in revoked.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "crl-garbage"),
        (b"-----BEGIN X509 CRL-----\n", "crl-garbage"),
        (b"\x30" * (MAX_CRL + 1), "crl-too-large"),
        (crl(ROOT)[:-1], "crl-garbage"),
        (crl(ROOT) + b"\0", "crl-garbage"),
        (crl(ROOT, issuer=name("another")), "crl-other-issuer"),
        (crl(ROOT, key=OTHER_KEY), "crl-signature"),
        (crl(ROOT, extensions=[(x509.DeltaCRLIndicator(1), True)]), "crl-delta"),
        (crl(ROOT, extensions=[(x509.DeltaCRLIndicator(1), False)]), "crl-delta"),
        (crl(ROOT, extensions=[(scope(indirect_crl=True), True)]), "crl-indirect"),
        (
            crl(
                ROOT,
                extensions=[(scope(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])), True)],
            ),
            "crl-scope",
        ),
        (crl(ROOT, extensions=[(scope(only_contains_attribute_certs=True), True)]), "crl-scope"),
        (
            crl(
                ROOT, extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)]
            ),
            "crl-garbage",
        ),
        (
            crl(
                ROOT,
                [OTHER],
                entry_extensions=[(x509.CertificateIssuer([x509.DirectoryName(name("other"))]), True)],
            ),
            "crl-indirect",
        ),
        (
            crl(
                ROOT,
                [OTHER],
                entry_extensions=[(x509.CertificateIssuer([x509.DirectoryName(name("other"))]), False)],
            ),
            "crl-indirect",
        ),
        (crl(ROOT, next_update=NOW - HOUR / 60), "crl-stale"),
        (crl(ROOT, this_update=NOW - 8 * DAY), "crl-stale"),
        (crl(ROOT, this_update=NOW + 2 * SKEW), "crl-future"),
    ],
)
def test_what_is_not_believed(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_an_issuer_that_may_not_sign_lists() -> None:
    assert refusal(crl(MUTE), MUTE) == "crl-signature"


def test_an_issuer_with_another_kind_of_key() -> None:
    assert refusal(crl(RSA), RSA) == "crl-signature"


def test_our_clock_in_the_past_and_in_the_future() -> None:
    assert refusal(crl(ROOT), now=NOW - DAY) == "crl-future"
    assert refusal(crl(ROOT), now=NOW + 365 * DAY) == "crl-stale"


def test_a_part_of_the_list_does_not_pass_for_another_part() -> None:
    here = "http://pki.example.com/1.crl"
    leaf = ROOT.leaf(extra=[(distribution(here), False)])
    own = verify(crl(ROOT, extensions=[(scope([here]), True)]))
    other = verify(crl(ROOT, extensions=[(scope(["http://pki.example.com/2.crl"]), True)]))
    assert own.answer(Pair(leaf, ROOT.certificate)).status is Status.GOOD
    for pair, found in ((Pair(leaf, ROOT.certificate), other), (PAIR, own)):
        with pytest.raises(PolicyRefused) as caught:
            found.answer(pair)
        assert caught.value.reason == "crl-scope"
    assert distribution_urls(leaf) == [here]


def test_users_and_authorities_on_lists_of_their_own() -> None:
    users = verify(crl(ROOT, extensions=[(scope(only_contains_user_certs=True), True)]))
    authorities = verify(crl(ROOT, extensions=[(scope(only_contains_ca_certs=True), True)]))
    middle = Pair(ROOT.intermediate().certificate, ROOT.certificate)
    assert users.answer(PAIR).status is Status.GOOD
    assert authorities.answer(middle).status is Status.GOOD
    for found, pair in ((users, middle), (authorities, PAIR)):
        with pytest.raises(PolicyRefused):
            found.answer(pair)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mutilated_list_never_crashes_and_never_says_anything_else(data: st.DataObject) -> None:
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PolicyRefused):
        assert verify(bytes(whole)).answer(PAIR).status is Status.REVOKED


def test_no_signature_over_sha_1_is_believed() -> None:
    made = asn1crypto.crl.CertificateList.load(crl(ROOT))
    for place in (made["tbs_cert_list"]["signature"], made["signature_algorithm"]):
        place["algorithm"] = "sha1_ecdsa"
    tbs = made["tbs_cert_list"].dump(force=True)
    made["signature"] = ROOT.key.sign(tbs, ec.ECDSA(hashes.SHA1()))
    data: bytes = made.dump(force=True)
    read = x509.load_der_x509_crl(data)
    ROOT.key.public_key().verify(read.signature, read.tbs_certlist_bytes, ec.ECDSA(hashes.SHA1()))
    assert refusal(data) == "crl-signature"
