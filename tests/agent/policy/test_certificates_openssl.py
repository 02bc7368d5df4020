"""Chains that openssl made, and openssl's own opinion of those that we refuse."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from cryptography import x509

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.certificates import CertificateVerifier, VerifiedCertificate
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ARC, ASSURANCE_OIDS, ROLE_OIDS, Assurance, Kind
from support.authority import DAY, NOW, TERMINAL, der
from support.openssl import OpensslAuthority, openssl

pytestmark = pytest.mark.property("P3")


def verify(root: Path, *chain: Path, kind: Kind = Kind.IDENTITY) -> VerifiedCertificate:
    verifier = CertificateVerifier([root.read_bytes()], TrustedClock("system", wall=lambda: NOW))
    return verifier.verify([der(x509.load_pem_x509_certificate(path.read_bytes())) for path in chain], kind)


def refusal(root: Path, *chain: Path) -> str:
    with pytest.raises(PolicyRefused) as caught:
        verify(root, *chain)
    return caught.value.reason


GRANTED = {
    "any": "2.5.29.32.0",
    "publisher": f"{ARC}.1.1, {ARC}.2.2",
    "viewer": f"{ARC}.1.2, 1.2.3.4",
    "neither": "1.2.3.4",
}
INTERMEDIATE = """
[{name}]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
certificatePolicies = {policies}
"""


@pytest.fixture
def authority(tmp_path: Path) -> OpensslAuthority:
    sections = (INTERMEDIATE.format(name=name, policies=policies) for name, policies in GRANTED.items())
    return OpensslAuthority(tmp_path, "".join(sections))


def test_terminals_pass(authority: OpensslAuthority) -> None:
    root = authority.directory / "root.pem"
    middle = authority.issue("middle", "intermediate")
    identity = authority.issue("identity", "identity", issuer="middle", subject="terminal")
    data = authority.issue("data", "data", issuer="middle", subject="terminal")
    found = verify(root, identity, middle)
    assert (found.terminal, found.subject) == (TERMINAL, "CN=terminal")
    assert found.roles == {"publisher", "viewer"}
    assert found.assurance == "hardware"
    assert verify(root, data, middle, kind=Kind.DATA).assurance == "hardware"


def test_sha1_is_refused(authority: OpensslAuthority) -> None:
    # cryptography does not sign with SHA-1 any more.
    leaf = authority.issue("terminal", "identity", "-md", "sha1")
    assert refusal(authority.directory / "root.pem", leaf) == "weak-signature"


def test_refused_by_both(authority: OpensslAuthority) -> None:
    at = authority.directory
    middle = authority.issue("middle", "intermediate")
    authority.issue("below", "intermediate", issuer="middle")
    cases = {
        "expired": [authority.issue("old", "identity", end=NOW - DAY / 2)],
        "not-yet-valid": [authority.issue("new", "identity", begin=NOW + DAY / 2)],
        "path-too-long": [
            authority.issue("deep", "identity", issuer="below"),
            at / "below.pem",
            middle,
        ],
        "chain-untrusted": [authority.issue("lost", "identity", issuer="middle")],
    }
    for reason, chain in cases.items():
        (at / "untrusted.pem").write_bytes(b"".join(path.read_bytes() for path in chain[1:]))
        untrusted = ["-untrusted", "untrusted.pem"] if chain[1:] else []
        arguments = ["verify", "-attime", f"{NOW.timestamp():.0f}", "-CAfile", "root.pem", *untrusted]
        with pytest.raises(AssertionError, match="verification failed"):
            openssl(at, *arguments, chain[0].name)
        assert refusal(at / "root.pem", *chain) == reason


@pytest.mark.parametrize("granted", GRANTED)
def test_openssl_finds_the_same_policies_in_a_path(authority: OpensslAuthority, granted: str) -> None:
    at = authority.directory
    middle = authority.issue("middle", granted)
    leaf = authority.issue("terminal", "identity", issuer="middle")
    found = verify(at / "root.pem", leaf, middle)
    ours = {str(ROLE_OIDS[role].dotted_string) for role in found.roles}
    if found.assurance is Assurance.HARDWARE:
        ours.add(ASSURANCE_OIDS[Assurance.HARDWARE].dotted_string)
    theirs = set()
    for oid in (f"{ARC}.1.1", f"{ARC}.1.2", f"{ARC}.1.3", f"{ARC}.2.2"):
        wanted = ["-policy_check", "-explicit_policy", "-policy", oid, "-attime", f"{NOW.timestamp():.0f}"]
        with contextlib.suppress(AssertionError):
            openssl(at, "verify", *wanted, "-CAfile", "root.pem", "-untrusted", "middle.pem", "terminal.pem")
            theirs.add(oid)
    assert ours == theirs
