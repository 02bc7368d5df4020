"""Certificates that must not pass, each refused with its own reason, beside the good ones that must."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ASSURANCE_OIDS, MAX_CERTIFICATE, ROLE_OIDS, Assurance, Kind, Role
from support.authority import (
    DAY,
    EVERY_POLICY,
    NOW,
    OTHER_TERMINAL,
    TERMINAL,
    VIEWER,
    Authority,
    der,
    name,
    new_key,
    pem,
    uris,
    usage,
)

pytestmark = [
    pytest.mark.property("P3"),
    # What it says, beside, of numbers that are not positive.
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]

CLOCK = TrustedClock("system", wall=lambda: NOW)
ROOT = Authority.root()
UNKNOWN = x509.ObjectIdentifier("1.2.3.4.5")


def constraints(*permitted: x509.GeneralName, critical: bool = True) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.NameConstraints(permitted, None), critical)]


def unknown(oid: x509.ObjectIdentifier = UNKNOWN, *, critical: bool) -> tuple[x509.ExtensionType, bool]:
    return (x509.UnrecognizedExtension(oid, b"\x30\x00"), critical)


def chain(*parts: x509.Certificate | Authority) -> list[bytes]:
    return [der(part.certificate if isinstance(part, Authority) else part) for part in parts]


def verifier(*roots: Authority) -> CertificateVerifier:
    return CertificateVerifier([pem(root.certificate) for root in roots or (ROOT,)], CLOCK)


def refusal(presented: list[bytes], *roots: Authority, kind: Kind = Kind.IDENTITY) -> str:
    with pytest.raises(PolicyRefused) as caught:
        verifier(*roots).verify(presented, kind)
    return caught.value.reason


# --- what must pass --------------------------------------------------------------------------------


def test_a_terminal_passes() -> None:
    key = new_key()
    policies = (ROLE_OIDS[Role.VIEWER], ROLE_OIDS[Role.PUBLISHER], ASSURANCE_OIDS[Assurance.HARDWARE])
    leaf = ROOT.leaf(key, policies=policies, end=NOW + DAY / 2)
    found = verifier().verify(chain(leaf), Kind.IDENTITY)
    assert found.terminal == TERMINAL
    assert found.subject == "CN=terminal"
    assert found.public_key == key.public_key()
    assert found.roles == {"viewer", "publisher"}
    assert found.assurance == "hardware"
    assert found.valid_until == NOW + DAY / 2


def test_a_data_certificate_passes_for_data() -> None:
    found = verifier().verify(chain(ROOT.data_leaf()), Kind.DATA)
    assert found.roles == frozenset()
    assert found.assurance == "software"


def _through(*lengths: int | None) -> list[bytes]:
    issuers = [ROOT]
    for index, length in enumerate(lengths):
        issuers.append(issuers[-1].intermediate(f"i{index}", path_length=length))
    return chain(issuers[-1].leaf(), *reversed(issuers[1:]))


@pytest.mark.parametrize(
    "presented",
    [
        pytest.param(lambda: chain(ROOT.leaf(), ROOT), id="with its root"),
        pytest.param(lambda: _through(None), id="one intermediate"),
        pytest.param(lambda: _through(1, 0), id="two intermediates, path lengths to the point"),
        pytest.param(lambda: chain(ROOT.leaf(policies_critical=True)), id="critical policies"),
        pytest.param(lambda: chain(ROOT.leaf(extra=[unknown(critical=False)])), id="unknown, not critical"),
        pytest.param(lambda: chain(ROOT.leaf(without=[x509.BasicConstraints])), id="no basicConstraints"),
        pytest.param(
            lambda: chain(ROOT.leaf(begin=NOW, end=NOW)), id="both ends of the validity belong to it"
        ),
    ],
)
def test_passes(presented: Callable[[], list[bytes]]) -> None:
    assert verifier().verify(presented(), Kind.IDENTITY).roles == {"viewer"}


def test_an_issuer_on_p384_passes() -> None:
    root = Authority.root(key=new_key(ec.SECP384R1()))
    assert verifier(root).verify(chain(root.leaf()), Kind.IDENTITY).terminal == TERMINAL


def test_one_of_several_roots_is_enough_in_pem_and_der() -> None:
    other = Authority.root("other")
    bundle = pem(other.certificate) + pem(ROOT.certificate)
    for roots in ([bundle], [der(other.certificate), der(ROOT.certificate)]):
        assert CertificateVerifier(roots, CLOCK).verify(chain(ROOT.leaf()), Kind.IDENTITY)


def test_an_intermediate_can_be_the_root() -> None:
    middle = ROOT.intermediate()
    assert verifier(middle).verify(chain(middle.leaf()), Kind.IDENTITY)
    assert refusal(chain(ROOT.leaf()), middle) == "chain-untrusted"


# --- what must not ---------------------------------------------------------------------------------


@dataclass
class Bad:
    what: str
    reason: str
    presented: Callable[[], list[bytes]]
    roots: list[Authority] = field(default_factory=list)
    kind: Kind = Kind.IDENTITY


def _below(**how: Any) -> list[bytes]:
    """A good leaf below an intermediate that ``how`` spoils."""
    middle = ROOT.intermediate(**how)
    return chain(middle.leaf(), middle)


def _swapped() -> list[bytes]:
    middle = ROOT.intermediate()
    return chain(middle, middle.leaf())


def _forged() -> list[bytes]:
    """Signed by somebody else in the root's name."""
    return chain(Authority(new_key(), ROOT.certificate).leaf())


def _cross() -> list[bytes]:
    """Two authorities that vouch for each other, and for the leaf."""
    first, second = new_key(), new_key()
    of_second = Authority(second, Authority.root("b", second).certificate)
    a = of_second.intermediate("a", first)
    b = a.intermediate("b", second)
    return chain(a.leaf(), a, b)


def _tampered() -> list[bytes]:
    """Another terminal's number under the issuer's signature."""
    return [der(ROOT.leaf()).replace(TERMINAL.encode(), OTHER_TERMINAL.encode())]


def _tlv(tag: int, content: bytes) -> bytes:
    """DER of so much content that its length takes two octets (X.690, 8.1.3.5), or one."""
    length = bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2, "big")
    return bytes([tag]) + length + content


SIGNED = x509.load_der_x509_certificate(der(ROOT.leaf())).tbs_certificate_bytes
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def _signed(tbs: bytes) -> bytes:
    """A certificate with whatever content, which the root signed."""
    signature = ROOT.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return _tlv(0x30, tbs + ECDSA_SHA256 + _tlv(0x03, b"\x00" + signature))


def _edited(old: str, new: str) -> list[bytes]:
    """Signed by the root after hexadecimal ``old`` had become ``new``, which is as long."""
    assert SIGNED.count(bytes.fromhex(old)) == 1
    return [_signed(SIGNED.replace(bytes.fromhex(old), bytes.fromhex(new)))]


def _numbered(serial: bytes) -> list[bytes]:
    """With this serial number, the content of a DER INTEGER."""
    version, rest = SIGNED[4:9], SIGNED[9:]
    return [_signed(_tlv(0x30, version + _tlv(0x02, serial) + rest[2 + rest[1] :]))]


def _named(names: str) -> list[bytes]:
    """With this subjectAltName, hexadecimal DER."""
    san = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex(names))
    return chain(ROOT.leaf(without=[x509.SubjectAlternativeName], extra=[(san, False)]))


RSA_ROOT = Authority.root("rsa", rsa.generate_private_key(65537, 2048))
WEAK_RSA_ROOT = Authority.root("weak rsa", rsa.generate_private_key(65537, 1024))
OLD_ROOT = Authority.root("old", begin=NOW - 2 * DAY, end=NOW - DAY)
DNS = x509.DNSName("terminal.example")
ENDLESS = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60)] * 5)
CRITICAL = unknown(critical=True)
DIRECTORY = x509.DirectoryName(name("terminal"))
SERVER = [ExtendedKeyUsageOID.SERVER_AUTH]
BOTH_LEVELS = (ROLE_OIDS[Role.VIEWER], *ASSURANCE_OIDS.values())

BAD = [
    Bad("nothing", "chain-empty", list),
    Bad("five certificates", "chain-too-long", lambda: _through(None, None, None, None)),
    Bad("three intermediates", "chain-untrusted", lambda: _through(None, None, None)),
    Bad("too many bytes", "certificate-too-large", lambda: [der(ROOT.leaf()) + bytes(MAX_CERTIFICATE)]),
    Bad("a certificate twice", "chain-loop", lambda: chain(ROOT.leaf(), ROOT, ROOT)),
    Bad("issuers in a circle", "chain-untrusted", _cross),
    Bad("garbage", "certificate-garbage", lambda: [b"\x30\x03abc"]),
    Bad("a byte too many", "certificate-garbage", lambda: [der(ROOT.leaf()) + b"\x00"]),
    Bad("PEM", "certificate-garbage", lambda: [pem(ROOT.leaf())]),
    Bad("version 5", "certificate-garbage", lambda: _edited("a003020102", "a003020104")),
    Bad("version 2", "certificate-garbage", lambda: _edited("a003020102", "a003020101")),
    # authorityKeyIdentifier becomes a second subjectAltName.
    Bad("an extension twice", "certificate-garbage", lambda: _edited("0603551d23", "0603551d11")),
    Bad("number 0", "certificate-garbage", lambda: _numbered(b"\x00")),
    Bad("a negative number", "certificate-garbage", lambda: _numbered(b"\x85")),
    # Kinds of names that cryptography has no class for: what it says of them is no ValueError.
    Bad("an X.400 address", "certificate-garbage", lambda: _named("3004a3023000")),
    Bad("an EDI party", "certificate-garbage", lambda: _named("3006a504a1020c00")),
    # prime256v1 becomes prime239v3.
    Bad("an unknown curve", "weak-key", lambda: _edited("2a8648ce3d030107", "2a8648ce3d030106")),
    Bad("cut short", "certificate-garbage", lambda: [der(ROOT.leaf())[:-1]]),
    Bad("another root's", "chain-untrusted", lambda: chain(Authority.root("other").leaf())),
    Bad("another root of the same name", "chain-untrusted", lambda: chain(Authority.root().leaf())),
    Bad("another root, sent along", "chain-untrusted", lambda: chain((o := Authority.root("o")).leaf(), o)),
    Bad("forged in the root's name", "chain-untrusted", _forged),
    Bad("changed after signing", "chain-untrusted", _tampered),
    Bad("no intermediate sent", "chain-untrusted", lambda: _below()[:1]),
    Bad("self-signed", "chain-untrusted", lambda: chain(Authority(k := new_key(), ROOT.certificate).leaf(k))),
    Bad("expired", "expired", lambda: chain(ROOT.leaf(end=NOW - DAY / 2))),
    Bad("not valid yet", "not-yet-valid", lambda: chain(ROOT.leaf(begin=NOW + DAY / 2))),
    Bad("an expired issuer's", "expired", lambda: _below(end=NOW - DAY / 2)),
    Bad("a future issuer's", "not-yet-valid", lambda: _below(begin=NOW + DAY / 2)),
    Bad("an expired root's", "expired", lambda: chain(OLD_ROOT.leaf()), [OLD_ROOT]),
    Bad("swapped", "leaf-is-ca", _swapped),
    Bad("the root itself", "leaf-is-ca", lambda: chain(ROOT)),
    Bad("a leaf with CA:TRUE", "leaf-is-ca", lambda: chain(ROOT.leaf(ca=True))),
    Bad("a terminal as issuer", "issuer-not-ca", lambda: _below(ca=False)),
    Bad("an issuer of CRLs alone", "issuer-not-ca", lambda: _below(key_usage=usage("crl_sign"))),
    Bad("beyond the path length", "path-too-long", lambda: _through(0, None)),
    Bad("a URI constraint", "name-constraints", lambda: _below(extra=constraints(*uris("example.com")))),
    Bad("a DNS constraint violated", "name-constraints", lambda: _dns_leaf("other.example")),
    Bad("a directory constraint", "name-constraints", lambda: _below(extra=constraints(DIRECTORY))),
    Bad("constraints that are not critical", "name-constraints", lambda: _below(extra=lax_constraints())),
    Bad("unknown critical", "unknown-critical-extension", lambda: chain(ROOT.leaf(extra=[CRITICAL]))),
    Bad("unknown critical above", "unknown-critical-extension", lambda: _below(extra=[CRITICAL])),
    Bad("out of order", "chain-disorder", lambda: [(c := _through(None, None))[0], c[2], c[1]]),
    Bad("a certificate too many", "chain-disorder", lambda: [*_below(), *chain(ROOT.intermediate("idle"))]),
    Bad("a P-224 key", "weak-key", lambda: chain(ROOT.leaf(new_key(ec.SECP224R1())))),
    Bad("a secp256k1 key", "weak-key", lambda: chain(ROOT.leaf(new_key(ec.SECP256K1())))),
    Bad("a P-384 key", "weak-key", lambda: chain(ROOT.leaf(new_key(ec.SECP384R1())))),
    Bad("an RSA-1024 key", "weak-key", lambda: chain(ROOT.leaf(WEAK_RSA_ROOT.key))),
    Bad("an RSA-2048 key", "weak-key", lambda: chain(ROOT.leaf(RSA_ROOT.key))),
    Bad("an Ed25519 key", "weak-key", lambda: chain(ROOT.leaf(ed25519.Ed25519PrivateKey.generate()))),
    Bad("a weak issuer's key", "weak-key", lambda: _below(key=WEAK_RSA_ROOT.key)),
    Bad("an RSA issuer's key", "weak-key", lambda: _below(key=RSA_ROOT.key)),
    Bad("a P-224 issuer's key", "weak-key", lambda: _below(key=new_key(ec.SECP224R1()))),
    Bad("a P-521 issuer's key", "weak-key", lambda: _below(key=new_key(ec.SECP521R1()))),
    Bad("a server's", "wrong-extended-usage", lambda: chain(ROOT.leaf(purposes=SERVER))),
    Bad("no purpose", "wrong-extended-usage", lambda: chain(ROOT.leaf(without=[x509.ExtendedKeyUsage]))),
    Bad(
        "an issuer for servers",
        "wrong-extended-usage",
        lambda: _below(extra=[(x509.ExtendedKeyUsage(SERVER), False)]),
    ),
    Bad(
        "any purpose",
        "wrong-extended-usage",
        lambda: chain(ROOT.leaf(purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
    ),
    Bad("a data key as identity", "wrong-usage", lambda: chain(ROOT.data_leaf())),
    Bad("an identity as data key", "wrong-usage", lambda: chain(ROOT.leaf()), kind=Kind.DATA),
    Bad(
        "a key for both",
        "wrong-usage",
        lambda: chain(ROOT.leaf(key_usage=usage("digital_signature", "key_agreement"))),
    ),
    Bad("no usage", "wrong-usage", lambda: chain(ROOT.leaf(without=[x509.KeyUsage]))),
    Bad("no SAN", "bad-san", lambda: chain(ROOT.leaf(without=[x509.SubjectAlternativeName]))),
    Bad("a critical SAN", "bad-san", lambda: chain(ROOT.leaf(san_critical=True))),
    Bad("two SANs", "bad-san", lambda: chain(ROOT.leaf(san=uris(TERMINAL, OTHER_TERMINAL)))),
    Bad("a SAN twice", "bad-san", lambda: chain(ROOT.leaf(san=uris(TERMINAL, TERMINAL)))),
    Bad("a URN and a DNS name", "bad-san", lambda: chain(ROOT.leaf(san=[*uris(TERMINAL), DNS]))),
    Bad("a DNS name", "bad-san", lambda: chain(ROOT.leaf(san=[DNS]))),
    Bad("another URI", "bad-san", lambda: chain(ROOT.leaf(san=uris("https://terminal.example/")))),
    Bad("another URN", "bad-san", lambda: chain(ROOT.leaf(san=uris(TERMINAL.replace("uuid", "oid"))))),
    Bad("a URN as DNS name", "bad-san", lambda: chain(ROOT.leaf(san=[x509.DNSName(TERMINAL)]))),
    Bad("upper case in front", "bad-san", lambda: chain(ROOT.leaf(san=uris("URN" + TERMINAL[3:])))),
    Bad(
        "upper case behind", "bad-san", lambda: chain(ROOT.leaf(san=uris("urn:uuid:" + TERMINAL[9:].upper())))
    ),
    Bad("upper case", "bad-san", lambda: chain(ROOT.leaf(san=uris(TERMINAL.upper())))),
    Bad(
        "no hyphens",
        "bad-san",
        lambda: chain(ROOT.leaf(san=uris("urn:uuid:" + TERMINAL[9:].replace("-", "")))),
    ),
    Bad("braces", "bad-san", lambda: chain(ROOT.leaf(san=uris("urn:uuid:{" + TERMINAL[9:] + "}")))),
    Bad("a space behind", "bad-san", lambda: chain(ROOT.leaf(san=uris(TERMINAL + " ")))),
    Bad(
        "the nil UUID",
        "bad-san",
        lambda: chain(ROOT.leaf(san=uris("urn:uuid:" + "0" * 8 + "-0000" * 3 + "-" + "0" * 12))),
    ),
    Bad("no subject", "bad-subject", lambda: chain(ROOT.leaf(subject=x509.Name([]), san_critical=True))),
    Bad(
        "a subject with a line break",
        "bad-subject",
        lambda: chain(ROOT.leaf(subject=name("a\nINFO granted"))),
    ),
    Bad("a subject with an escape", "bad-subject", lambda: chain(ROOT.leaf(subject=name("\x1b[2Jterminal")))),
    Bad("an endless subject", "bad-subject", lambda: chain(ROOT.leaf(subject=ENDLESS))),
    Bad("two assurances", "bad-assurance", lambda: chain(ROOT.leaf(policies=BOTH_LEVELS))),
    Bad(
        "mapped policies",
        "policy-rewriting",
        lambda: _below(extra=[unknown(x509.ObjectIdentifier("2.5.29.33"), critical=False)]),
    ),
    Bad(
        "constrained policies",
        "policy-rewriting",
        lambda: _below(extra=[(x509.PolicyConstraints(0, None), False)]),
    ),
    Bad(
        "no authority key identifier",
        "missing-extension",
        lambda: chain(ROOT.leaf(without=[x509.AuthorityKeyIdentifier])),
    ),
]


def lax_constraints() -> list[tuple[x509.ExtensionType, bool]]:
    return constraints(x509.DirectoryName(name("somebody else")), critical=False)


def _dns_leaf(host: str) -> list[bytes]:
    middle = ROOT.intermediate(extra=constraints(x509.DNSName("terminal.example")))
    return chain(middle.leaf(san=[*uris(TERMINAL), x509.DNSName(host)]), middle)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
def test_refused(bad: Bad) -> None:
    assert refusal(bad.presented(), *bad.roots, kind=bad.kind) == bad.reason


# --- policies through the path ---------------------------------------------------------------------

PUBLISHER = ROLE_OIDS[Role.PUBLISHER]


@pytest.mark.parametrize(
    ("granted", "roles"),
    [
        ((EVERY_POLICY,), {"viewer", "publisher"}),
        ((ROLE_OIDS[Role.VIEWER],), {"viewer"}),
        ((ROLE_OIDS[Role.MODERATOR],), set()),
        ((), set()),
    ],
    ids=["any", "viewers only", "moderators only", "none"],
)
def test_an_intermediate_gives_no_role_that_it_was_not_given(
    granted: tuple[x509.ObjectIdentifier, ...], roles: set[str]
) -> None:
    middle = ROOT.intermediate(policies=granted)
    leaf = middle.leaf(policies=(*VIEWER, PUBLISHER))
    assert verifier().verify(chain(leaf, middle), Kind.IDENTITY).roles == roles


def test_an_intermediate_gives_no_assurance_that_it_was_not_given() -> None:
    hardware = ASSURANCE_OIDS[Assurance.HARDWARE]
    middle = ROOT.intermediate(policies=(ROLE_OIDS[Role.VIEWER],))
    leaf = middle.leaf(policies=(ROLE_OIDS[Role.VIEWER], hardware))
    assert verifier().verify(chain(leaf, middle), Kind.IDENTITY).assurance == "software"
    assert verifier().verify(chain(ROOT.leaf(policies=(hardware,))), Kind.IDENTITY).assurance == "hardware"


def test_any_policy_in_a_leaf_is_no_role() -> None:
    assert verifier().verify(chain(ROOT.leaf(policies=(EVERY_POLICY,))), Kind.IDENTITY).roles == frozenset()


# --- roots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roots", "reason"),
    [
        ([], "no-roots"),
        ([b""], "bad-root"),
        ([b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], "bad-root"),
        ([der(ROOT.certificate)[:-1]], "bad-root"),
        ([pem(ROOT.leaf())], "bad-root"),
        ([pem(RSA_ROOT.certificate)], "bad-root"),
    ],
    ids=["none", "empty", "not a certificate", "cut short", "a leaf", "RSA"],
)
def test_roots_that_cannot_be_used(roots: list[bytes], reason: str) -> None:
    with pytest.raises(AgentError) as caught:
        CertificateVerifier(roots, CLOCK)
    assert caught.value.reason == reason


# --- whatever bytes come ---------------------------------------------------------------------------

GOOD = _through(None)


@given(st.lists(st.binary(max_size=400), max_size=5))
@settings(deadline=None, max_examples=200)
def test_garbage_is_refused(presented: list[bytes]) -> None:
    refusal(presented)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    mutated = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(mutated) - 1))
        kind = draw(st.sampled_from(("replace", "insert", "delete")))
        if kind == "replace":
            mutated[at] ^= draw(st.integers(1, 255))
        elif kind == "insert":
            mutated.insert(at, draw(st.integers(0, 255)))
        else:
            del mutated[at]
    return bytes(mutated)


@given(data=st.data())
@settings(deadline=None, max_examples=250)
def test_a_mutated_certificate_is_refused_or_says_the_same(data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(GOOD) - 1))
    mutated = data.draw(mutations(GOOD[which]))
    try:
        verifier().verify([*GOOD[:which], mutated, *GOOD[which + 1 :]], Kind.IDENTITY)
    except PolicyRefused:
        return
    # ECDSA signatures have more than one spelling; what they sign has one.
    said = [x509.load_der_x509_certificate(each).tbs_certificate_bytes for each in (mutated, GOOD[which])]
    assert said[0] == said[1]


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(mutations(SIGNED))
@settings(deadline=None, max_examples=400)
def test_whatever_a_root_signs_raises_nothing_else(tbs: bytes) -> None:
    with contextlib.suppress(PolicyRefused):
        verifier().verify([_signed(tbs)], Kind.IDENTITY)


def test_the_signer_of_mutations_signs_well() -> None:
    assert verifier().verify([_signed(SIGNED)], Kind.IDENTITY).terminal == TERMINAL


def test_a_certificates_hash_names_no_terminal() -> None:
    """Anybody can spell a certificate's signature anew and so give it another hash; the SAN stays."""
    leaf = next(each for each in iter(ROOT.leaf, None) if each.signature[-1] % 2 == 0)
    twin = bytearray(der(leaf))
    # The first octet of a BIT STRING counts the unused bits at its end (X.690, 8.6.2.2).
    assert twin[-len(leaf.signature) - 1] == 0
    twin[-len(leaf.signature) - 1] = 1
    first, second = (verifier().verify([each], Kind.IDENTITY) for each in (der(leaf), bytes(twin)))
    assert first.sha256 != second.sha256
    assert first.terminal == second.terminal
