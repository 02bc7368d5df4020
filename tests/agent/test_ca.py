"""The lab's authority: what it issues, what openssl and our own policy think of it, what it refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dongled.agent.certificates.authority import (
    MAX_REQUEST,
    CaError,
    Request,
    issue_data,
    issue_identity,
    load_request,
    make_root,
)
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ARC, Assurance, Role
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import (
    NOW,
    OTHER_TERMINAL,
    TERMINAL,
    Authority,
    der,
    name,
    new_key,
    pem,
    point,
    private_pem,
    uris,
    usage,
)
from support.openssl import openssl

CA_KEY = new_key()
ROOT = make_root(CA_KEY, name("lab"), 3650, NOW)
KEY, DATA_KEY = new_key(), new_key()


def request(
    key: Any = KEY, subject: str = "terminal", san: str | None = TERMINAL, *extra: x509.ExtensionType
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(name(subject))
    names = [x509.SubjectAlternativeName(uris(san))] if san is not None else []
    for extension in (*names, *extra):
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def identity(csr: bytes | None = None, **how: Any) -> x509.Certificate:
    how = {"roles": [Role.VIEWER], "assurance": Assurance.SOFTWARE, "days": 30, "now": NOW, **how}
    return issue_identity(CA_KEY, ROOT, load_request(csr or request()), **how)


def data(csr: bytes | None = None, beside: x509.Certificate | None = None, **how: Any) -> x509.Certificate:
    how = {"assurance": Assurance.HARDWARE, "days": 30, "now": NOW, **how}
    return issue_data(CA_KEY, ROOT, load_request(csr or request(DATA_KEY)), beside or identity(), **how)


def refusal(call: Any, *arguments: Any, **how: Any) -> str:
    with pytest.raises(CaError) as caught:
        call(*arguments, **how)
    return caught.value.reason


def policy() -> CertificatePolicy:
    return CertificatePolicy([pem(ROOT)], TrustedClock("system", wall=lambda: NOW))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_our_own_policy_accepts_what_it_issues(curve: ec.EllipticCurve) -> None:
    key = new_key(curve)
    root = make_root(key, name("lab"), 3650, NOW)
    leaf = issue_identity(
        key,
        root,
        load_request(request()),
        roles=[Role.VIEWER, Role.PUBLISHER],
        assurance=Assurance.HARDWARE,
        days=30,
        now=NOW,
    )
    here = CertificatePolicy([der(root)], TrustedClock("system", wall=lambda: NOW))
    found = here.check_identity([der(leaf)])
    assert (found.terminal, found.assurance) == (TERMINAL, "hardware")
    assert found.roles == {"viewer", "publisher"}
    assert found.valid_until == NOW + timedelta(days=30)


def test_the_pair_of_a_terminal_is_accepted() -> None:
    known = policy().check_identity([der(identity())])
    assert policy().check_data_key(known, [der(data())], point(DATA_KEY)) == "hardware"


def test_openssl_verifies_and_reads_them_as_we_do(tmp_path: Path) -> None:
    for file, certificate in {"root": ROOT, "identity": identity(), "data": data()}.items():
        (tmp_path / f"{file}.pem").write_bytes(pem(certificate))
    for file in ("identity", "data"):
        arguments = ["-attime", f"{NOW.timestamp():.0f}", "-x509_strict", "-purpose", "sslclient"]
        assert "OK" in openssl(tmp_path, "verify", "-CAfile", "root.pem", *arguments, f"{file}.pem")

    text = openssl(tmp_path, "x509", "-in", "identity.pem", "-noout", "-text")
    assert f"URI:{TERMINAL}" in text
    assert "Digital Signature\n" in text
    assert f"Policy: {ARC}.1.2\n" in text
    assert f"Policy: {ARC}.2.1\n" in text
    assert "CA:FALSE" in text
    assert "TLS Web Client Authentication" in text
    text = openssl(tmp_path, "x509", "-in", "data.pem", "-noout", "-text")
    assert "Key Agreement\n" in text
    assert f"Policy: {ARC}.2.2\n" in text
    assert f"{ARC}.1." not in text
    text = openssl(tmp_path, "x509", "-in", "root.pem", "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in text
    assert "Certificate Sign, CRL Sign" in text


def test_openssl_makes_requests_that_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(private_pem(KEY))
    openssl(
        tmp_path, "req", "-new", "-key", "key.pem", "-subj", "/CN=terminal", "-addext",
        f"subjectAltName=URI:{TERMINAL}", "-out", "csr.pem",
    )  # fmt: skip
    found = load_request((tmp_path / "csr.pem").read_bytes())
    assert found == Request(KEY.public_key(), name("terminal"), TERMINAL)
    openssl(tmp_path, "req", "-in", "csr.pem", "-outform", "DER", "-out", "csr.der")
    assert load_request((tmp_path / "csr.der").read_bytes()) == found


def test_nothing_that_a_request_asks_for_is_copied() -> None:
    greedy = request(
        KEY,
        "terminal",
        TERMINAL,
        x509.BasicConstraints(ca=True, path_length=None),
        usage("key_cert_sign", "key_agreement", "digital_signature"),
        x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(f"{ARC}.1.3"), None)]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
    )
    plain, asked = identity(), identity(greedy)
    assert list(asked.extensions) == list(plain.extensions)


def test_serial_numbers_are_random() -> None:
    serials = [identity().serial_number for _ in range(20)]
    assert len(set(serials)) == 20
    assert all(0 < serial < 1 << 128 for serial in serials)
    assert max(serials).bit_length() > 100


def _unsigned() -> bytes:
    good = x509.load_pem_x509_csr(request()).public_bytes(Encoding.DER)
    return good.replace(TERMINAL.encode(), OTHER_TERMINAL.encode())


@pytest.mark.parametrize(
    ("csr", "reason"),
    [
        (_unsigned, "request-not-signed"),
        (lambda: request(rsa.generate_private_key(65537, 2048)), "weak-key"),
        (lambda: request(new_key(ec.SECP224R1())), "weak-key"),
        (lambda: request(new_key(ec.SECP256K1())), "weak-key"),
        (lambda: request(new_key(ec.SECP384R1())), "weak-key"),
        (lambda: request(ed25519.Ed25519PrivateKey.generate()), "weak-key"),
        (lambda: request(san="https://terminal.example"), "bad-san"),
        (lambda: request(san=TERMINAL.upper()), "bad-san"),
        (lambda: request(san=None), "bad-san"),
        (lambda: request(subject="a\nb"), "bad-subject"),
        (lambda: b"", "request-garbage"),
        (lambda: b"-----BEGIN CERTIFICATE REQUEST-----\n", "request-garbage"),
        (lambda: pem(ROOT), "request-garbage"),
        (lambda: request() + b"\n" * MAX_REQUEST, "request-too-large"),
    ],
    ids=[
        "changed after signing",
        "RSA",
        "P-224",
        "secp256k1",
        "P-384",
        "Ed25519",
        "another URI",
        "upper case",
        "no SAN",
        "a line break in the subject",
        "empty",
        "cut short",
        "a certificate",
        "too large",
    ],
)  # fmt: skip
def test_requests_refused(csr: Any, reason: str) -> None:
    assert refusal(load_request, csr()) == reason


@given(at=st.integers(0, 10_000), with_byte=st.integers(1, 255))
@example(at=213, with_byte=1)  # an unused bit of the signature's BIT STRING
@settings(deadline=None, max_examples=300)
def test_a_mutated_request_is_refused_or_asks_for_the_same(at: int, with_byte: int) -> None:
    mutated = bytearray(REQUEST_DER)
    mutated[at % len(mutated)] ^= with_byte
    try:
        found = load_request(bytes(mutated))
    except CaError:
        return
    # ECDSA signatures have more than one spelling, and none of them is certified.
    assert found == load_request(REQUEST_DER)


REQUEST_DER = x509.load_pem_x509_csr(request()).public_bytes(Encoding.DER)


def test_an_identity_needs_a_role() -> None:
    assert refusal(identity, roles=[]) == "no-role"


def test_nothing_outlives_its_root() -> None:
    assert refusal(identity, days=3651) == "outside-root"
    assert refusal(identity, days=0) == "outside-root"
    assert refusal(identity, now=NOW - timedelta(days=1)) == "outside-root"


def test_a_root_of_another_key_is_noticed() -> None:
    other = make_root(new_key(), name("lab"), 3650, NOW)
    with pytest.raises(CaError) as caught:
        issue_identity(
            CA_KEY,
            other,
            load_request(request()),
            roles=[Role.VIEWER],
            assurance=Assurance.SOFTWARE,
            days=1,
            now=NOW,
        )
    assert caught.value.reason == "wrong-root"


def test_roots_are_for_keys_of_the_profile() -> None:
    assert refusal(make_root, new_key(ec.SECP256K1()), name("lab"), 1, NOW) == "weak-key"
    assert refusal(make_root, CA_KEY, x509.Name([]), 1, NOW) == "bad-subject"
    assert refusal(make_root, CA_KEY, name("a\nb"), 1, NOW) == "bad-subject"


def test_a_data_certificate_is_its_terminals() -> None:
    assert refusal(data, request(DATA_KEY, san=OTHER_TERMINAL)) == "identity-mismatch"
    assert refusal(data, request(DATA_KEY, subject="another")) == "identity-mismatch"
    assert refusal(data, request(KEY)) == "key-reused"
    assert refusal(data, beside=Authority.root("lab").leaf(KEY)) == "bad-identity"
    assert refusal(data, beside=ROOT) == "bad-identity"
