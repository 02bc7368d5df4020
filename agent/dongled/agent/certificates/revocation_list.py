"""The list of what a lab's authority revoked (RFC 5280, 5)."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent.certificates.authority import BACKDATE, CaError, hash_for
from dongled.agent.certificates.register import Register


def make_crl(
    key: ec.EllipticCurvePrivateKey, root: x509.Certificate, register: Register, days: int, now: datetime
) -> x509.CertificateRevocationList:
    """A whole list of ``register``, with the next number. Raises CaError."""
    if key.public_key() != root.public_key():
        raise CaError("wrong-root", "the root certificate is not of this key", 'run "dongled ca init" again')
    register.number += 1
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(now)
        .next_update(now + timedelta(days=days) + BACKDATE)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(register.number), critical=False)
    )
    for revoked in register.revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(int(revoked.serial, 16))
            .revocation_date(datetime.fromisoformat(revoked.at))
        )
        reason = x509.ReasonFlags(revoked.reason)
        # RFC 5280, 5.3.1: unspecified is said by saying nothing.
        if reason is not x509.ReasonFlags.unspecified:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hash_for(key))
