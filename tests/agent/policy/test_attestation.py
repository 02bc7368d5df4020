"""A token maker's word for keys: a real YubiKey's, and many that nobody should believe."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import CheckedCertificate, PolicyRefused
from dongled.agent.policy.attestation import Attestation
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.protocol.api import Evidence
from support.authority import DAY, NOW, Authority, der, new_key, pem
from support.evidence import SHOWN

pytestmark = pytest.mark.property("P4")

VECTORS = Path(__file__).parents[2] / "vectors" / "attestation"
REAL_TIME = TrustedClock("system", wall=lambda: datetime(2026, 11, 23, tzinfo=UTC))
CLOCK = TrustedClock("system", wall=lambda: NOW)
ARC = "1.3.6.1.4.1.41482.3"

MAKER = Authority.root("maker", policies=())
DEVICE = MAKER.intermediate("device", policies=(), path_length=0)
OTHER_DEVICE = MAKER.intermediate("other device", policies=(), path_length=0)


def real(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((VECTORS / f"attestation-{name}.crt").read_bytes())


def word(value: bytes, number: int) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{ARC}.{number}"), value), False


def statement(key: Any, device: Authority = DEVICE, *, serial: int = 7, **how: Any) -> x509.Certificate:
    words = [word(b"\5\7\1", 3), word(b"\2\4" + serial.to_bytes(4), 7), word(b"\2\1", 8)]
    bare = {
        "policies": (),
        "without": (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName),
    }
    return device.leaf(key, **{"extra": words, **bare, **how})


IDENTITY, DATA = new_key(), new_key()


def identity_of(key: ec.EllipticCurvePrivateKey = IDENTITY) -> CheckedCertificate:
    return CheckedCertificate("urn:uuid:x", "CN=x", bytes(32), key.public_key(), frozenset(), "hardware")


def shown(*certificates: x509.Certificate | Authority | bytes) -> Evidence:
    def encoded(each: x509.Certificate | Authority | bytes) -> bytes:
        return (
            each
            if isinstance(each, bytes)
            else der(each.certificate if isinstance(each, Authority) else each)
        )

    return Evidence(attestation=tuple(encoded(each) for each in certificates))


def judge(evidence: Evidence, *, required: bool = True, roots: tuple[Authority, ...] = (MAKER,)) -> str:
    check = Attestation([pem(root.certificate) for root in roots], CLOCK, required=required)
    presented = replace(SHOWN, data_key=DATA.public_key(), evidence=evidence)
    try:
        return "; ".join(check.check(identity_of(), presented, "camera")) or "nothing"
    except PolicyRefused as error:
        return error.reason


SECRETIVE = [word(b"\5\7\1", 3), word(b"\2\1", 8)]
# Real devices sign with RSA.
RSA = [
    MAKER.intermediate(each, rsa.generate_private_key(65537, 2048), policies=(), path_length=0)
    for each in ("third device", "fourth device")
]
BOTH = (statement(IDENTITY), statement(DATA))


def test_a_real_yubikeys_word_is_believed() -> None:
    check = Attestation([(VECTORS / "attestation-root.crt").read_bytes()], REAL_TIME)
    certificate = real("9a")
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    (found,) = check.verify([der(certificate), der(real("intermediate"))], [key])
    assert (found.subject, found.serial) == ("CN=YubiKey PIV Attestation 9a", 0x01B3BEF6)
    assert (found.firmware, found.pin, found.touch) == ("5.4.3", "once", "never")


def test_the_devices_own_certificate_is_no_statement() -> None:
    check = Attestation([pem(MAKER.certificate)], CLOCK)
    with pytest.raises(PolicyRefused) as refused:
        check.verify([der(DEVICE.certificate)], [DEVICE.key.public_key()])
    assert refused.value.reason == "attestation-garbage"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_both_keys_of_one_device_in_any_order(order: tuple[int, ...]) -> None:
    every = (*BOTH, DEVICE)
    assert judge(shown(*(every[place] for place in order))) == "keys made on a YubiKey (7, firmware 5.7.1)"


def test_none_is_refused_where_it_is_required() -> None:
    assert judge(Evidence()) == "not-attested"
    assert judge(Evidence(), required=False) == "nothing"


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (shown(BOTH[0], DEVICE), "attestation-other-key"),
        (shown(BOTH[1], DEVICE), "attestation-other-key"),
        (shown(statement(new_key()), BOTH[1], DEVICE), "attestation-other-key"),
        (shown(*BOTH), "attestation-untrusted"),
        (shown(*BOTH, OTHER_DEVICE), "attestation-untrusted"),
        (
            shown(BOTH[0], statement(DATA, OTHER_DEVICE, serial=8), DEVICE, OTHER_DEVICE),
            "attestation-two-devices",
        ),
        # Neither tells its number.
        (
            shown(
                statement(IDENTITY, RSA[0], extra=SECRETIVE), statement(DATA, RSA[1], extra=SECRETIVE), *RSA
            ),
            "attestation-two-devices",
        ),
        (
            shown(statement(IDENTITY, begin=NOW - 9 * DAY, end=NOW - DAY), BOTH[1], DEVICE),
            "attestation-untrusted",
        ),
        (shown(statement(IDENTITY, extra=()), BOTH[1], DEVICE), "attestation-garbage"),
        (
            shown(statement(IDENTITY, extra=[word(b"\5", 3), word(b"\2\1", 8)]), BOTH[1], DEVICE),
            "attestation-garbage",
        ),
        (shown(statement(IDENTITY, without=()), BOTH[1], DEVICE), "attestation-garbage"),
        (shown(b"no certificate", *BOTH, DEVICE), "attestation-garbage"),
        (shown(b"\x30\x00"), "attestation-garbage"),
    ],
)
def test_what_does_not_hold_is_refused_required_or_not(
    evidence: Evidence, reason: str, required: bool
) -> None:
    assert judge(evidence, required=required) == reason


def test_anybodys_device_is_refused() -> None:
    forger = Authority.root("maker", policies=())
    device = forger.intermediate("device", policies=(), path_length=0)
    forged = shown(statement(IDENTITY, device), statement(DATA, device), device, forger)
    assert judge(forged) == "attestation-untrusted"
    assert judge(forged, roots=(forger,)).startswith("keys made")


def test_a_device_that_may_not_issue_is_refused() -> None:
    """A statement's own key signs another statement: that would be a device of the terminal's making."""
    signer = Authority(IDENTITY, BOTH[0])
    assert judge(shown(BOTH[0], statement(DATA, signer), DEVICE)) == "attestation-untrusted"


@pytest.mark.parametrize("roots", [[], [b"garbage"], [der(BOTH[0])]])
def test_roots_that_are_none(roots: list[bytes]) -> None:
    with pytest.raises(AgentError) as refused:
        Attestation(roots, CLOCK)
    assert refused.value.reason == "attestation-roots"
