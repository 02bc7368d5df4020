"""What a request shows beside its signature (docs/protocol.md, Evidence): carried here, judged by policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from dongled.agent.protocol import cbor, limits
from dongled.agent.protocol.api import Assertion, Evidence
from dongled.agent.protocol.fields import Reader
from dongled.agent.protocol.refusal import Refusal

OCSP, FIDO, ATTESTATION = 1, 2, 3


def challenge(ctx: bytes, echo: bytes) -> bytes:
    """What a FIDO2 authenticator is to answer: of this request's H(ctx) and the publisher's nonce in it."""
    return hashlib.sha256(b"dongled/1 fido" + ctx + echo).digest()


def to_map(evidence: Evidence) -> Mapping[int, Any]:
    """The one spelling: what is not there has no key."""
    fields: dict[int, Any] = {}
    if evidence.ocsp:
        fields[OCSP] = list(evidence.ocsp)
    if evidence.fido is not None:
        fido = evidence.fido
        fields[FIDO] = [fido.credential, fido.authenticator_data, fido.client_data, fido.signature]
    if evidence.attestation:
        fields[ATTESTATION] = list(evidence.attestation)
    return fields


def from_map(value: object, read: Reader) -> Evidence:
    """Raises Refusal by ``read``."""
    if not isinstance(value, dict) or not set(value) <= {OCSP, FIDO, ATTESTATION}:
        raise read.fail("evidence")
    if len(cbor.encode(value)) > limits.EVIDENCE:
        raise read.fail("evidence size")
    ocsp: tuple[bytes, ...] = ()
    fido: Assertion | None = None
    attestation: tuple[bytes, ...] = ()
    if OCSP in value:
        answers = read.items(value[OCSP], "ocsp", limits.STAPLES, 1)
        ocsp = tuple(read.blob(answer, "ocsp", limits.STAPLE) for answer in answers)
        read.distinct(answers, "ocsp")
    if FIDO in value:
        row = read.row(value[FIDO], "fido", 4)
        fido = Assertion(
            read.blob(row[0], "fido", limits.CREDENTIAL),
            read.blob(row[1], "fido", limits.FIDO, limits.AUTHENTICATOR_DATA),
            read.blob(row[2], "fido", limits.FIDO, 0),
            read.blob(row[3], "fido", limits.FIDO),
        )
    if ATTESTATION in value:
        certificates = read.items(value[ATTESTATION], "attestation", limits.ATTESTATION, 1)
        attestation = tuple(read.blob(each, "attestation", limits.CERTIFICATE) for each in certificates)
        read.distinct(certificates, "attestation")
    return Evidence(ocsp, fido, attestation)


def unfit(evidence: Evidence) -> str | None:
    """Why no publisher would read this evidence; None where each would."""
    try:
        from_map(to_map(evidence), Reader("request"))
    except Refusal as refusal:
        return refusal.detail
    return None
