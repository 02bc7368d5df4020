"""What EST says, without a socket: addresses, requests, and answers that anybody may have written.

https://www.rfc-editor.org/rfc/rfc7030, base64 as RFC 8951 reads it.
"""

from __future__ import annotations

import base64
import math
import warnings
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from dongled.agent.errors import AgentError
from dongled.agent.policy.profile import MALFORMED, MAX_CERTIFICATE

WELL_KNOWN = "/.well-known/est"  # RFC 7030, 3.2.2
REQUEST_TYPE = "application/pkcs10"  # RFC 7030, 4.2.1
ANSWER_TYPE = "application/pkcs7-mime"  # RFC 7030, 4.1.3 and 4.2.3
MAX_ANSWER = 65536  # bytes
MAX_AUTHORITIES = 16  # certificates
MAX_WAIT = 86400.0  # seconds


class EnrolmentError(AgentError):
    """No new certificate; the one that was there is still in use."""


class Pending(EnrolmentError):
    """Somebody has to agree first (RFC 7030, 4.2.3): ask the same again after ``wait`` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(
            "est-pending",
            f"the platform has not decided yet, and wants to be asked again in {wait:.0f} s",
            "have the request approved there",
        )
        self.wait = wait


def address(url: str, label: str | None, operation: str) -> str:
    """``url`` is the server's, such as ``https://est.example.com``."""
    return "/".join([url.rstrip("/") + WELL_KNOWN, *([label] if label else []), operation])


def request_body(request: x509.CertificateSigningRequest) -> bytes:
    """RFC 7030, 4.2.1: base64 of the DER."""
    return base64.encodebytes(request.public_bytes(Encoding.DER))


def certificates_in(content_type: str, body: bytes, most: int) -> list[x509.Certificate]:
    """The certificates of a certs-only answer, at least one and at most ``most``. Raises EnrolmentError."""
    if content_type.partition(";")[0].strip().lower() != ANSWER_TYPE:
        raise _garbage(f"an answer of type {content_type[:60]!r}")
    if len(body) > MAX_ANSWER:
        raise _too_large("an answer", MAX_ANSWER)
    try:
        # RFC 8951, 3.1: line breaks mean nothing, and any other stray character is an error.
        der = base64.b64decode(b"".join(body.split()), validate=True)
        with warnings.catch_warnings():
            # That it was BER: RFC 7030's own example (A.1) has its set in no order.
            warnings.simplefilter("ignore", UserWarning)
            found = load_der_pkcs7_certificates(der)
    except MALFORMED as error:
        raise _garbage("an answer that is not base64 of a PKCS#7 with certificates") from error
    if not 0 < len(found) <= most:
        raise _garbage(f"{len(found)} certificates where 1 to {most} belong")
    if any(len(certificate.public_bytes(Encoding.DER)) > MAX_CERTIFICATE for certificate in found):
        raise _too_large("a certificate", MAX_CERTIFICATE)
    return found


def seconds_of(retry_after: str | None, now: datetime) -> float:
    """How long to wait by a Retry-After (RFC 9110, 10.2.3), at most a day. Raises EnrolmentError."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), MAX_WAIT)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # RFC 7030, 4.2.3: there must be one.
        raise _garbage("a request to wait, without how long") from None
    wait = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(math.ceil(wait), 0.0), MAX_WAIT)


def _garbage(what: str) -> EnrolmentError:
    return EnrolmentError(
        "est-garbage", f"the platform sent {what}", "is enrolment.url an EST server's (RFC 7030)?"
    )


def _too_large(what: str, limit: int) -> EnrolmentError:
    return EnrolmentError(
        "est-too-large", f"the platform sent {what} of more than {limit} bytes", "no more of it is read"
    )
