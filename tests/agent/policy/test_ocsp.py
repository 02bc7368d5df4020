"""OCSP answers that must not be believed, each refused with its own reason, beside those that must."""

from __future__ import annotations

import contextlib
from typing import Any

import asn1crypto.ocsp  # type: ignore[import-untyped]  # it brings no types
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.ocsp import MAX_RESPONSE, find_answer, make_request, verify_response
from dongled.agent.policy.revocation import SKEW, Answer, Pair, Status
from support.authority import DAY, NOW, Authority, new_key, usage
from support.platform import HOUR, ocsp_answer, responder

pytestmark = pytest.mark.property("P3")

ROOT = Authority.root(end=NOW + 365 * DAY)
# The same name, and another key: what a look-alike would be.
FALSE_ROOT = Authority.root(end=NOW + 365 * DAY)
LEAF = ROOT.leaf()
PAIR = Pair(LEAF, ROOT.certificate)
KEY = new_key()
WHOLE = ocsp_answer(ROOT, LEAF, ocsp.OCSPCertStatus.REVOKED)
NAME = ocsp.OCSPResponderEncoding.NAME
GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


def verify(data: bytes, now: Any = NOW, nonce: bytes | None = None) -> Answer:
    return verify_response(data, PAIR, now, DAY, nonce)


def refusal(data: bytes, now: Any = NOW, nonce: bytes | None = None) -> str:
    with pytest.raises(PolicyRefused) as caught:
        verify(data, now, nonce)
    return caught.value.reason


def delegated(key: Any = KEY, **how: Any) -> bytes:
    return ocsp_answer(ROOT, LEAF, key=key, signer=responder(ROOT, key, **how))


def false_root(**how: Any) -> bytes:
    return ocsp_answer(ROOT, LEAF, key=FALSE_ROOT.key, signer=FALSE_ROOT.certificate, **how)


@pytest.mark.parametrize("by", list(ocsp.OCSPResponderEncoding))
@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384()])
def test_the_issuers_own_answer(by: Any, algorithm: Any) -> None:
    answer = verify(ocsp_answer(ROOT, LEAF, by=by, algorithm=algorithm))
    assert answer.status is Status.GOOD
    assert (answer.this_update, answer.fresh_until) == (NOW - HOUR, NOW + HOUR)
    assert answer.produced == NOW - HOUR


@pytest.mark.parametrize("by", list(ocsp.OCSPResponderEncoding))
def test_a_delegates_answer(by: Any) -> None:
    data = ocsp_answer(ROOT, LEAF, by=by, key=KEY, signer=responder(ROOT, KEY))
    assert verify(data).status is Status.GOOD


def test_revoked_says_why_and_unknown_is_not_good() -> None:
    answer = verify(ocsp_answer(ROOT, LEAF, REVOKED))
    assert answer.status is Status.REVOKED
    assert "keyCompromise" in answer.detail
    assert verify(ocsp_answer(ROOT, LEAF, UNKNOWN)).status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ocsp-garbage"),
        (b"\x30\x03\x0a\x01\x00", "ocsp-garbage"),
        (b"\x30" * (MAX_RESPONSE + 1), "ocsp-too-large"),
        (ocsp_answer(ROOT, LEAF)[:-1], "ocsp-garbage"),
        (ocsp_answer(ROOT, LEAF) + b"\0", "ocsp-garbage"),
        (ocsp_answer(ROOT, LEAF, nonce=b"x" * 16, critical=True), "ocsp-garbage"),
        (ocsp_answer(ROOT, ROOT.leaf()), "ocsp-other-certificate"),
        (ocsp_answer(ROOT, LEAF, issuer=FALSE_ROOT.certificate), "ocsp-other-certificate"),
        (false_root(by=NAME, brought=()), "ocsp-signature"),
        (false_root(by=NAME), "ocsp-signature"),
        (false_root(brought=()), "ocsp-responder"),
        (false_root(), "ocsp-responder"),
        (ocsp_answer(ROOT, LEAF, key=KEY, signer=ROOT.leaf(KEY)), "ocsp-responder"),
        (ocsp_answer(ROOT, LEAF, key=KEY, signer=responder(FALSE_ROOT, KEY)), "ocsp-responder"),
        (ocsp_answer(ROOT, LEAF, key=KEY, signer=responder(ROOT, KEY), brought=()), "ocsp-responder"),
        (
            ocsp_answer(ROOT, LEAF, brought=[ROOT.leaf() for _ in range(5)]),
            "ocsp-garbage",
        ),
        (delegated(purposes=()), "ocsp-responder"),
        (delegated(purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)), "ocsp-responder"),
        (delegated(key_usage=usage("key_agreement")), "ocsp-responder"),
        (delegated(begin=NOW - 2 * DAY, end=NOW - DAY), "ocsp-responder"),
        (delegated(begin=NOW + DAY, end=NOW + 2 * DAY), "ocsp-responder"),
        (delegated(new_key(ec.SECP256K1())), "ocsp-responder"),
        (delegated(rsa.generate_private_key(65537, 2048)), "ocsp-responder"),
        (ocsp_answer(ROOT, LEAF, next_update=NOW - HOUR / 60), "ocsp-stale"),
        (ocsp_answer(ROOT, LEAF, this_update=NOW - 2 * DAY, next_update=None), "ocsp-stale"),
        (ocsp_answer(ROOT, LEAF, this_update=NOW - 2 * DAY, next_update=NOW + DAY), "ocsp-stale"),
        (ocsp_answer(ROOT, LEAF, this_update=NOW + 2 * SKEW), "ocsp-future"),
        (ocsp_answer(ROOT, LEAF, produced=NOW + 2 * SKEW), "ocsp-future"),
    ],
)
def test_what_is_not_believed(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_no_signature_over_sha_1_is_believed() -> None:
    """Collisions of SHA-1 have been made: an answer about one certificate would be one about another."""
    response = asn1crypto.ocsp.OCSPResponse.load(ocsp_answer(ROOT, LEAF))
    basic = response["response_bytes"]["response"].parsed
    basic["signature_algorithm"] = {"algorithm": "sha1_ecdsa"}
    basic["signature"] = ROOT.key.sign(basic["tbs_response_data"].dump(), ec.ECDSA(hashes.SHA1()))
    response["response_bytes"]["response"] = basic
    data: bytes = response.dump(force=True)
    assert ocsp.load_der_ocsp_response(data).certificate_status is ocsp.OCSPCertStatus.GOOD
    assert refusal(data) == "ocsp-signature"


@pytest.mark.parametrize(
    "status",
    [status for status in ocsp.OCSPResponseStatus if status is not ocsp.OCSPResponseStatus.SUCCESSFUL],
)
def test_an_error_is_no_answer(status: ocsp.OCSPResponseStatus) -> None:
    data = ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
    assert refusal(data) == "ocsp-refused"


def test_a_changed_bit_breaks_the_signature() -> None:
    data = bytearray(ocsp_answer(ROOT, LEAF, REVOKED, by=NAME))
    serial = LEAF.serial_number.to_bytes(20).lstrip(b"\0")
    at = data.index(b"\xa1", data.index(serial) + len(serial))
    data[at] = 0xA0  # revoked, in context tag 1, into good's tag 0
    assert refusal(bytes(data)) in ("ocsp-garbage", "ocsp-signature")


def test_the_nonce() -> None:
    data = ocsp_answer(ROOT, LEAF, nonce=b"mine" * 4)
    verify(data, nonce=b"mine" * 4)
    verify(data)
    verify(ocsp_answer(ROOT, LEAF), nonce=b"mine" * 4)
    assert refusal(data, nonce=b"new!" * 4) == "ocsp-nonce"


def test_an_old_revocation_is_still_one() -> None:
    old = ocsp_answer(ROOT, LEAF, REVOKED, this_update=NOW - 90 * DAY, next_update=NOW - 89 * DAY)
    assert verify(old).status is Status.REVOKED


def test_our_clock_in_the_past_and_in_the_future() -> None:
    data = ocsp_answer(ROOT, LEAF)
    assert refusal(data, NOW - DAY) == "ocsp-future"
    assert refusal(data, NOW + 365 * DAY) == "ocsp-stale"


def test_the_request_names_the_certificate() -> None:
    request = ocsp.load_der_ocsp_request(make_request(PAIR, b"n" * 32))
    assert request.serial_number == LEAF.serial_number
    assert len(list(request.extensions)) == 1


def test_the_certificate_that_an_answer_is_about_is_found() -> None:
    middle = ROOT.intermediate()
    leaf = middle.leaf()
    pairs = [Pair(leaf, middle.certificate), Pair(middle.certificate, ROOT.certificate)]
    found, _ = find_answer(ocsp_answer(ROOT, middle.certificate), pairs, NOW, DAY)
    assert found is pairs[1]
    with pytest.raises(PolicyRefused) as caught:
        find_answer(ocsp_answer(ROOT, LEAF), pairs, NOW, DAY)
    assert caught.value.reason == "ocsp-other-certificate"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutilated_answer_never_crashes_and_never_says_anything_else(data: st.DataObject) -> None:
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PolicyRefused):
        assert verify(bytes(whole)).status is Status.REVOKED
