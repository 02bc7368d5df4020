"""What an OCSP responder says about a certificate, believed only after this (RFC 6960):

1. size and parsing    a responder making us parse for ever, or an answer read in two ways
2. its own status      an error, which nobody signs, passing for an answer
3. the certificate     an answer about another one (3.2, 1)
4. the signer          anybody but the issuer or who it authorised answering (3.2, 2 to 4; 4.2.2.2)
5. the nonce           an answer to another question, where the responder took notice of ours (4.4.1)
6. the times           an answer that ran out, is older than we allow, or is of tomorrow (3.2, 5 and 6)

https://www.rfc-editor.org/rfc/rfc6960
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.profile import ISSUER_CURVES, MALFORMED, ProfileViolation, require_curve
from dongled.agent.policy.revocation import SKEW, Answer, Pair, Source, Status
from dongled.agent.protocol import limits

MAX_RESPONSE = 32768  # bytes
MAX_CERTIFICATES = 4  # that a response may bring along
NONCE_SIZE = 32  # RFC 9654, 2.1

SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
STATUSES = {
    ocsp.OCSPCertStatus.GOOD: Status.GOOD,
    ocsp.OCSPCertStatus.REVOKED: Status.REVOKED,
    ocsp.OCSPCertStatus.UNKNOWN: Status.UNKNOWN,
}


def make_request(pair: Pair, nonce: bytes | None) -> bytes:
    """The DER of a request about one certificate.

    RFC 5019, 2.1.1: SHA-1 is what every responder knows. It names the issuer here and proves nothing.
    """
    builder = ocsp.OCSPRequestBuilder().add_certificate(pair.certificate, pair.issuer, hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def verify_response(
    data: bytes, pair: Pair, now: datetime, max_age: timedelta, nonce: bytes | None = None
) -> Answer:
    """The verified answer about ``pair`` in the DER of a response.

    ``nonce`` is what was asked with; a responder may leave it out. Raises PolicyRefused, with a reason each.
    """
    # 1.
    if len(data) > MAX_RESPONSE:
        raise PolicyRefused("ocsp-too-large", f"an OCSP answer of {len(data)} bytes, at most {MAX_RESPONSE}")
    try:
        response = ocsp.load_der_ocsp_response(data)
        # 2.
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise PolicyRefused(
                "ocsp-refused", f"the OCSP responder answered {response.response_status.name.lower()}"
            )
        answer = _verify(response, pair, now, max_age, nonce)
        return replace(answer, der=data) if len(data) <= limits.STAPLE else answer
    except MALFORMED as error:
        raise PolicyRefused("ocsp-garbage", f"not an OCSP answer: {error}") from error


def find_answer(data: bytes, pairs: Sequence[Pair], now: datetime, max_age: timedelta) -> tuple[Pair, Answer]:
    """The one of ``pairs`` that the DER of a response is about, and the answer. Raises PolicyRefused."""
    other = None
    for pair in pairs:
        try:
            return pair, verify_response(data, pair, now, max_age)
        except PolicyRefused as error:
            if error.reason != "ocsp-other-certificate":
                raise
            other = error
    raise other or PolicyRefused("ocsp-other-certificate", "the OCSP answer is about no certificate shown")


def _verify(
    response: ocsp.OCSPResponse, pair: Pair, now: datetime, max_age: timedelta, nonce: bytes | None
) -> Answer:
    # RFC 6960, 4.4: no critical extension is understood; a nonce is none.
    if any(extension.critical for extension in (*response.extensions, *response.single_extensions)):
        raise PolicyRefused("ocsp-garbage", "the OCSP answer has a critical extension")

    # 3. cryptography insists on exactly one answer in it, as RFC 5019, 2.2.1 recommends.
    _require_about(response, pair)

    # 4.
    _require_signer(response, pair.issuer, now)

    # 5.
    echoed = next((e.value for e in response.extensions if isinstance(e.value, x509.OCSPNonce)), None)
    if nonce is not None and echoed is not None and echoed.nonce != nonce:
        raise PolicyRefused("ocsp-nonce", "the OCSP answer is to another question")

    # 6.
    this_update, next_update = response.this_update_utc, response.next_update_utc
    produced = response.produced_at_utc
    status = STATUSES[response.certificate_status]
    latest = max(this_update, produced)
    if latest > now + SKEW:
        raise PolicyRefused(
            "ocsp-future",
            f"the OCSP answer is of {latest:%Y-%m-%d %H:%M}, here it is {now:%Y-%m-%d %H:%M}",
            "compare this device's clock with the responder's",
        )
    fresh_until = this_update + max_age
    if next_update is not None:
        fresh_until = min(fresh_until, next_update)
    if now > fresh_until and status is not Status.REVOKED:
        raise PolicyRefused("ocsp-stale", f"the OCSP answer ran out at {fresh_until:%Y-%m-%d %H:%M:%S} UTC")
    detail = ""
    if status is Status.REVOKED:
        why = response.revocation_reason
        detail = (
            f"since {response.revocation_time_utc:%Y-%m-%d %H:%M} ({why.value if why else 'no reason given'})"
        )
    return Answer(Source.OCSP, status, this_update, fresh_until, produced, detail)


def _require_about(response: ocsp.OCSPResponse, pair: Pair) -> None:
    asked = ocsp.OCSPRequestBuilder().add_certificate(
        pair.certificate, pair.issuer, response.hash_algorithm
    ).build()  # fmt: skip
    if (response.issuer_name_hash, response.issuer_key_hash, response.serial_number) != (
        asked.issuer_name_hash,
        asked.issuer_key_hash,
        asked.serial_number,
    ):
        raise PolicyRefused("ocsp-other-certificate", "the OCSP answer is about another certificate")


def _require_signer(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    brought = response.certificates
    if len(brought) > MAX_CERTIFICATES:
        raise PolicyRefused("ocsp-garbage", f"the OCSP answer brings {len(brought)} certificates")
    named = _named_signer(response, [issuer, *brought])
    if not _signed(response, named):
        raise PolicyRefused("ocsp-signature", "the OCSP answer's signature does not hold")
    # Its key, not its certificate: the issuer may have several certificates for one key.
    if named.public_key() != issuer.public_key():
        _require_delegate(named, issuer, now)


def _named_signer(response: ocsp.OCSPResponse, candidates: Sequence[x509.Certificate]) -> x509.Certificate:
    # RFC 6960, 4.2.2.3: a name, or the SHA-1 of the key's bits, which is also RFC 5280's first kind of SKI.
    for candidate in candidates:
        if response.responder_name is not None and candidate.subject == response.responder_name:
            return candidate
        digest = x509.SubjectKeyIdentifier.from_public_key(candidate.public_key()).digest
        if response.responder_key_hash == digest:
            return candidate
    raise PolicyRefused("ocsp-responder", "nobody is known who signed the OCSP answer")


def _require_delegate(signer: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    """RFC 6960, 4.2.2.2: certified for it by the issuer itself.

    Whether that certificate was revoked is not asked in turn (4.2.2.2.1 leaves it to us): one asks for ever.
    """
    try:
        signer.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PolicyRefused("ocsp-responder", "the issuer did not certify the OCSP responder") from error
    purposes = next((e.value for e in signer.extensions if isinstance(e.value, x509.ExtendedKeyUsage)), ())
    if ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        raise PolicyRefused("ocsp-responder", "the OCSP responder is not certified for OCSPSigning")
    usage = next((e.value for e in signer.extensions if isinstance(e.value, x509.KeyUsage)), None)
    if usage is not None and not usage.digital_signature:
        raise PolicyRefused("ocsp-responder", "the OCSP responder is not certified for signatures")
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise PolicyRefused("ocsp-responder", "the OCSP responder's certificate is not valid now")


def _signed(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    algorithm = response.signature_hash_algorithm
    try:
        key = require_curve(signer.public_key(), ISSUER_CURVES, "the OCSP responder's")
    except ProfileViolation as error:
        raise PolicyRefused("ocsp-responder", str(error)) from error
    if not isinstance(algorithm, SIGNATURE_HASHES):
        return False
    try:
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True
