"""What status says of certificates, time and revocation, from the objects that know it."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509

from dongled.agent.enrolment.renewal import Renewal, RoleState
from dongled.agent.policy.trust import Trust
from dongled.agent.status import CertificateStatus, RevocationStatus, TimeStatus
from dongled.agent.terminal import Terminal
from dongled.tokens.api import KeyRole


def certificate_status(
    terminal: Terminal | None, renewal: Renewal | None, now: datetime | None = None
) -> list[CertificateStatus]:
    """Of the identity and the data key; one without a certificate is left out unless it is to get one."""
    chains = {
        KeyRole.IDENTITY: terminal.identity_chain if terminal else (),
        KeyRole.DATA: terminal.data_chain if terminal else (),
    }
    found = []
    for role, chain in chains.items():
        if chain:
            status = _certificate(role, chain[0], now or datetime.now(UTC))
        elif renewal is not None:
            status = CertificateStatus(role, "", 0.0, 0.0, "", 0.0)
        else:
            continue
        if renewal is not None:
            _add_renewal(status, renewal.roles[role], renewal.due_in(role))
        found.append(status)
    return found


def _certificate(role: KeyRole, der: bytes, now: datetime) -> CertificateStatus:
    leaf = x509.load_der_x509_certificate(der)
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return CertificateStatus(
        role=role.value,
        subject=leaf.subject.rfc4514_string(),
        not_before=(begin - now).total_seconds(),
        not_after=(end - now).total_seconds(),
        until=end.isoformat(timespec="minutes"),
        life=(end - begin).total_seconds(),
    )


def _add_renewal(status: CertificateStatus, state: RoleState, due_in: float) -> None:
    status.renewal = "failing" if state.failures else "waiting" if state.blind or state.why else "planned"
    status.renewal_due = due_in
    status.renewal_failures = state.failures
    status.renewal_why = state.why


def time_status(trust: Trust | None) -> TimeStatus | None:
    if trust is None:
        return None
    refusal = trust.clock.refusal()
    if refusal is None:
        return TimeStatus(trust.clock.source.value, trusted=True)
    return TimeStatus(trust.clock.source.value, trusted=False, reason=refusal.reason, why=str(refusal))


def revocation_status(trust: Trust | None, mode: str) -> RevocationStatus | None:
    if trust is None:
        return None
    return RevocationStatus(mode, dict(trust.fetcher.failing()) if trust.fetcher else {})
