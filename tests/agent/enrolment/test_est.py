"""EST on the wire: RFC 7030's own examples, openssl's PKCS#7, and what nobody should have sent."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import example, given
from hypothesis import strategies as st

from dongled.agent.enrolment.est import (
    MAX_ANSWER,
    MAX_AUTHORITIES,
    EnrolmentError,
    address,
    certificates_in,
    request_body,
    seconds_of,
)
from support.authority import NOW, Authority, new_key, pem
from support.est import certs_only
from support.openssl import openssl

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "est"
TYPE = "application/pkcs7-mime; smime-type=certs-only"


def refused(content_type: str, body: bytes, most: int = 1) -> str:
    with pytest.raises(EnrolmentError) as caught:
        certificates_in(content_type, body, most)
    return caught.value.reason


def test_the_examples_of_rfc_7030() -> None:
    (issued,) = certificates_in(TYPE, (VECTORS / "rfc7030-a3-simpleenroll.b64").read_bytes(), 1)
    assert issued.subject.rfc4514_string() == "CN=demostep4 1368141352"
    assert issued.serial_number == 0x15
    authorities = certificates_in(TYPE, (VECTORS / "rfc7030-a1-cacerts.b64").read_bytes(), MAX_AUTHORITIES)
    # A.1: a root, its successor, and each signed by the other (4.1.3).
    assert [each.issuer == each.subject for each in authorities].count(True) == 2
    assert {each.subject.rfc4514_string() for each in authorities} == {
        "CN=estExampleCA OwO",
        "CN=estExampleCA NwN",
        "CN=estExampleCA OwN",
    }


def test_an_answer_of_openssl_is_read_and_ours_is_read_by_openssl(tmp_path: Path) -> None:
    root = Authority.root()
    leaf = root.leaf()
    (tmp_path / "leaf.pem").write_bytes(pem(leaf))
    openssl(tmp_path, "crl2pkcs7", "-nocrl", "-certfile", "leaf.pem", "-outform", "DER", "-out", "p7")
    body = base64.encodebytes((tmp_path / "p7").read_bytes())
    assert certificates_in(TYPE, body, 1) == [leaf]
    # RFC 8951, 3.1: line breaks or none, of either kind.
    assert certificates_in("Application/PKCS7-MIME", b"".join(body.split()), 1) == [leaf]
    assert certificates_in(TYPE, body.replace(b"\n", b"\r\n"), 1) == [leaf]

    # The fixture that other tests rely on says the same.
    (tmp_path / "ours").write_bytes(base64.b64decode(certs_only(leaf, root.certificate).body))
    text = openssl(tmp_path, "pkcs7", "-inform", "DER", "-in", "ours", "-print_certs")
    assert text.count("BEGIN CERTIFICATE") == 2


def test_a_request_is_what_openssl_calls_one(tmp_path: Path) -> None:
    key = new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    (tmp_path / "csr").write_bytes(base64.b64decode(request_body(builder.sign(key, hashes.SHA256()))))
    openssl(tmp_path, "req", "-inform", "DER", "-in", "csr", "-verify", "-noout")


def test_addresses() -> None:
    assert address("https://est:8443/", None, "cacerts") == "https://est:8443/.well-known/est/cacerts"
    assert address("https://est", "iot", "simpleenroll") == "https://est/.well-known/est/iot/simpleenroll"


def test_what_is_refused() -> None:
    root = Authority.root()
    good = certs_only(root.certificate).body
    assert refused("text/html", good) == "est-garbage"
    assert refused("", good) == "est-garbage"
    assert refused(TYPE, b"") == "est-garbage"
    assert refused(TYPE, b"-----BEGIN PKCS7-----\n" + good) == "est-garbage"
    assert refused(TYPE, good.replace(b"M", b"*", 1)) == "est-garbage"
    assert refused(TYPE, base64.b64encode(b"\x30\x00")) == "est-garbage"
    assert refused(TYPE, base64.b64encode(base64.b64decode(good)[:-9])) == "est-garbage"
    assert refused(TYPE, certs_only(root.certificate, root.leaf()).body) == "est-garbage"
    assert refused(TYPE, b"A" * (MAX_ANSWER + 1)) == "est-too-large"
    big = root.leaf(extra=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x" * 9000), False)])
    assert refused(TYPE, certs_only(big).body) == "est-too-large"


@example(b"", 57, 1)  # a certificate of a version that there is not
@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 255))
def test_nothing_else_comes_out_of_garbage(noise: bytes, place: int, byte: int) -> None:
    der = bytearray(base64.b64decode((VECTORS / "rfc7030-a3-simpleenroll.b64").read_bytes()))
    der[place % len(der)] = byte
    for body in (noise, base64.b64encode(noise), base64.b64encode(bytes(der))):
        with suppress(EnrolmentError):
            certificates_in(TYPE, body, 1)


def test_how_long_to_wait() -> None:
    assert seconds_of("0", NOW) == 0
    assert seconds_of(" 30 ", NOW) == 30
    assert seconds_of("999999999", NOW) == 86400
    assert seconds_of("Mon, 01 Mar 2027 12:01:00 GMT", NOW) == 60
    assert seconds_of("Mon, 01 Mar 2027 12:01:00 GMT", NOW + timedelta(days=1)) == 0
    assert seconds_of("Fri, 31 Dec 9999 23:59:59 GMT", NOW) == 86400
    for bad in (None, "", "soon", "-1", "1.5", "1" * 30, "²", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"):
        with pytest.raises(EnrolmentError) as caught:
            seconds_of(bad, NOW)
        assert caught.value.reason == "est-garbage"
