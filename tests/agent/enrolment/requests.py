"""Certificate requests of a terminal whose keys a test has."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from support.authority import TERMINAL, name, uris, usage


def request(key: Any, kind: str = "identity", terminal: str = TERMINAL) -> x509.CertificateSigningRequest:
    wanted = usage("digital_signature" if kind == "identity" else "key_agreement")
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("door"))
        .add_extension(x509.SubjectAlternativeName(uris(terminal)), critical=False)
        .add_extension(wanted, critical=True)
        .sign(key, hashes.SHA256())
    )
