"""What a certificate revocation list says, believed only after this (RFC 5280, 5 and 6.3.3):

1. size and parsing   a list that takes for ever to read, or is read in two ways
2. the issuer         another authority's list, which does not name what ours revoked
3. the signature      anybody's list; an issuer's that may issue certificates and no lists
4. the kind           a part passing for the whole: delta, indirect, by reason, attribute certificates
5. the entries        an entry about another issuer's certificate, or one that says more than we understand
6. the times          a list that ran out, is older than we allow, or is of tomorrow
7. the scope          asked for each certificate: a list for other distribution points than its own

https://www.rfc-editor.org/rfc/rfc5280
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.profile import MALFORMED
from dongled.agent.policy.revocation import SKEW, Answer, Pair, Source, Status

MAX_CRL = 2 * 1024 * 1024  # bytes: about 50,000 entries
SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
UNDERSTOOD = (x509.IssuingDistributionPoint, x509.AuthorityKeyIdentifier, x509.CRLNumber)

E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class VerifiedCrl:
    """A list that passed every step but the last; ``revoked`` maps serial numbers to why and when."""

    this_update: datetime
    fresh_until: datetime
    revoked: Mapping[int, str]
    scope: x509.IssuingDistributionPoint | None

    def answer(self, pair: Pair) -> Answer:
        """What it says about a certificate of its issuer. Raises PolicyRefused ``crl-scope``."""
        # 7.
        if self.scope is not None and not _covers(self.scope, pair.certificate):
            raise PolicyRefused(
                "crl-scope", "the CRL is for other certificates than this one", "name the CRL that lists it"
            )
        why = self.revoked.get(pair.certificate.serial_number)
        status = Status.GOOD if why is None else Status.REVOKED
        return Answer(Source.CRL, status, self.this_update, self.fresh_until, self.this_update, why or "")


def verify_crl(data: bytes, issuer: x509.Certificate, now: datetime, max_age: timedelta) -> VerifiedCrl:
    """Verify a list of ``issuer``'s, PEM or DER. Raises PolicyRefused, with a reason each."""
    # 1.
    if len(data) > MAX_CRL:
        raise PolicyRefused("crl-too-large", f"a CRL of {len(data)} bytes, at most {MAX_CRL} are read")
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        return _verify(crl, issuer, now, max_age)
    except MALFORMED as error:
        raise PolicyRefused("crl-garbage", f"not a CRL: {error}") from error


def _verify(
    crl: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime, max_age: timedelta
) -> VerifiedCrl:
    # 2.
    if crl.issuer != issuer.subject:
        raise PolicyRefused("crl-other-issuer", f"the CRL is {crl.issuer.rfc4514_string()[:256]!r}'s")

    # 3.
    usage = _find(issuer.extensions, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise PolicyRefused("crl-signature", "the CRL's issuer may not sign CRLs")
    key = issuer.public_key()
    if (
        not isinstance(key, ec.EllipticCurvePublicKey)
        or not isinstance(crl.signature_hash_algorithm, SIGNATURE_HASHES)
        or not crl.is_signature_valid(key)
    ):
        raise PolicyRefused("crl-signature", "the CRL's signature does not hold")

    # 4.
    if _find(crl.extensions, x509.DeltaCRLIndicator) is not None:
        raise PolicyRefused("crl-delta", "a delta CRL: it lists changes alone", "name the base CRL")
    for extension in crl.extensions:
        if extension.critical and not isinstance(extension.value, UNDERSTOOD):
            raise PolicyRefused("crl-garbage", f"a critical extension: {extension.oid.dotted_string}")
    scope = _find(crl.extensions, x509.IssuingDistributionPoint)
    if scope is not None and scope.indirect_crl:
        raise PolicyRefused("crl-indirect", "an indirect CRL: it lists other issuers' certificates")
    if scope is not None and (scope.only_some_reasons or scope.only_contains_attribute_certs):
        raise PolicyRefused("crl-scope", "the CRL lists a part of what is revoked")

    # 5.
    revoked = {entry.serial_number: _why(entry) for entry in crl}

    # 6.
    this_update, next_update = crl.last_update_utc, crl.next_update_utc
    if this_update > now + SKEW:
        raise PolicyRefused(
            "crl-future",
            f"the CRL is of {this_update:%Y-%m-%d %H:%M}, here it is {now:%Y-%m-%d %H:%M}",
            "compare this device's clock with the platform's",
        )
    # RFC 5280, 5.1.2.5: it MUST be there.
    if next_update is None:
        raise PolicyRefused("crl-garbage", "the CRL does not say until when it holds")
    fresh_until = min(next_update, this_update + max_age)
    if now > fresh_until:
        raise PolicyRefused("crl-stale", f"the CRL ran out at {fresh_until:%Y-%m-%d %H:%M:%S} UTC")
    return VerifiedCrl(this_update, fresh_until, revoked, scope)


def _why(entry: x509.RevokedCertificate) -> str:
    # RFC 5280, 5.3: reasons, dates; certificateIssuer and what is unknown are critical.
    reason = "no reason given"
    for extension in entry.extensions:
        if extension.critical or isinstance(extension.value, x509.CertificateIssuer):
            raise PolicyRefused("crl-indirect", "an entry of the CRL is about another issuer's certificate")
        if isinstance(extension.value, x509.CRLReason):
            reason = extension.value.reason.value
    return f"since {entry.revocation_date_utc:%Y-%m-%d %H:%M} ({reason})"


def _covers(scope: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> bool:
    # RFC 5280, 6.3.3 (b)(2)
    constraints = _find(certificate.extensions, x509.BasicConstraints)
    authority = constraints is not None and constraints.ca
    if (scope.only_contains_user_certs and authority) or (scope.only_contains_ca_certs and not authority):
        return False
    if scope.full_name is None and scope.relative_name is None:
        return True
    points = _find(certificate.extensions, x509.CRLDistributionPoints) or ()
    own = [name for point in points for name in point.full_name or ()]
    return any(name in own for name in scope.full_name or ())


def distribution_urls(certificate: x509.Certificate) -> list[str]:
    """Where a certificate says that its issuer's whole CRL is (RFC 5280, 4.2.1.13)."""
    points = _find(certificate.extensions, x509.CRLDistributionPoints) or ()
    return [
        name.value
        for point in points
        if point.crl_issuer is None and point.reasons is None
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    ]


def _find(extensions: x509.Extensions, kind: type[E]) -> E | None:
    return next((extension.value for extension in extensions if isinstance(extension.value, kind)), None)
