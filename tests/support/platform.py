"""What a certificate platform says about certificates: OCSP answers and CRLs, as good or bad as wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import asn1crypto.ocsp  # type: ignore[import-untyped]  # it brings no types
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from support.authority import DAY, NOW, Authority, Extension, build, name, new_key, usage

HOUR = timedelta(hours=1)


def responder(
    authority: Authority,
    key: Any,
    *,
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.OCSP_SIGNING,),
    key_usage: x509.KeyUsage | None = None,
    **validity: Any,
) -> x509.Certificate:
    """A delegated responder's certificate."""
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage or usage("digital_signature"), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False),
    ]
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    return build(
        name("responder"),
        authority.certificate.subject,
        key.public_key(),
        authority.key,
        extensions,
        **validity,
    )


def ocsp_answer(
    authority: Authority,
    certificate: x509.Certificate,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    issuer: x509.Certificate | None = None,
    this_update: datetime = NOW - HOUR,
    next_update: datetime | None = NOW + HOUR,
    produced: datetime | None = None,
    key: Any = None,
    signer: x509.Certificate | None = None,
    by: ocsp.OCSPResponderEncoding = ocsp.OCSPResponderEncoding.HASH,
    nonce: bytes | None = None,
    critical: bool = False,
    algorithm: Any = None,
    brought: Iterable[x509.Certificate] | None = None,
) -> bytes:
    """DER of an answer by ``authority``, or by ``signer`` with ``key``."""
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            certificate,
            issuer or authority.certificate,
            algorithm or hashes.SHA1(),
            status,
            this_update,
            next_update,
            this_update - HOUR if revoked else None,
            x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(by, signer or authority.certificate)
    )
    bring = [signer] if signer is not None and brought is None else brought
    if bring:
        builder = builder.certificates(bring)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical)
    made = builder.sign(key or authority.key, hashes.SHA256()).public_bytes(Encoding.DER)
    return _produced(made, produced or this_update, key or authority.key)


def _produced(data: bytes, produced: datetime, key: Any) -> bytes:
    """The same answer, signed again: cryptography writes down when it was really made."""
    response = asn1crypto.ocsp.OCSPResponse.load(data)
    basic = response["response_bytes"]["response"].parsed
    tbs = basic["tbs_response_data"]
    tbs["produced_at"] = produced
    signed = tbs.dump(force=True)
    kind = [padding.PKCS1v15()] if isinstance(key, rsa.RSAPrivateKey) else []
    how = [*kind, hashes.SHA256()] if kind else [ec.ECDSA(hashes.SHA256())]
    basic["signature"] = key.sign(signed, *how)
    response["response_bytes"]["response"] = basic
    again: bytes = response.dump(force=True)
    return again


def crl(
    authority: Authority,
    revoked: Iterable[x509.Certificate] = (),
    *,
    this_update: datetime = NOW - HOUR,
    next_update: datetime = NOW + DAY,
    issuer: x509.Name | None = None,
    key: Any = None,
    extensions: Iterable[Extension] = (),
    entry_extensions: Iterable[Extension] = ((x509.CRLReason(x509.ReasonFlags.key_compromise), False),),
    encoding: Encoding = Encoding.DER,
    algorithm: Any = None,
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer or authority.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for certificate in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(this_update - HOUR)
        )
        for value, critical in entry_extensions:
            entry = entry.add_extension(value, critical)
        builder = builder.add_revoked_certificate(entry.build())
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key or authority.key, algorithm or hashes.SHA256()).public_bytes(encoding)


def scope(full_name: Sequence[str] = (), **how: Any) -> x509.IssuingDistributionPoint:
    plain: dict[str, Any] = {
        "full_name": [x509.UniformResourceIdentifier(each) for each in full_name] or None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**plain, **how})


def distribution(*urls: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints(
        [
            x509.DistributionPoint([x509.UniformResourceIdentifier(url) for url in urls], None, None, None),
        ]
    )


OTHER_KEY = new_key()
