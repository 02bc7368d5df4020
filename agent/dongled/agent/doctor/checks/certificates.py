"""Are the certificates those of the pinned keys, valid, and for how long? Read without a PIN."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, failed, of_error, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.token.certificates import RENEW, SOON, judge
from dongled.agent.enrolment.kept import KeptChains
from dongled.agent.errors import AgentError
from dongled.agent.health.rules import DAY
from dongled.agent.status import CertificateStatus
from dongled.config.api import KeyPin, Settings, TokenPlace
from dongled.tokens import describe
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.pin import NoPin
from dongled.tokens.session import open_session


async def look(case: TerminalCase) -> Iterable[Finding]:
    settings = case.settings
    if settings is None or settings.token is None:
        return [skipped("no token is configured")]
    findings = []
    for role, pin in ((KeyRole.IDENTITY, settings.token.identity), (KeyRole.DATA, settings.token.data)):
        try:
            if case.daemon is not None and pin.certificate is None:
                findings.append(_announced(role, case.daemon.certificates))
            elif case.occupied and pin.certificate is None:
                findings.append(skipped("a daemon uses the token", "`dongled status` shows it", role.value))
            else:
                chain = await _chain(settings, role, pin)
                findings.append(judge(role, chain, pin.digest, datetime.now(UTC)))
        except (TokenError, AgentError) as error:
            findings.append(of_error(error, role.value))
    return findings


def _announced(role: KeyRole, certificates: Iterable[CertificateStatus]) -> Finding:
    """What the daemon announces; it took none that is another key's."""
    mine = next((each for each in certificates if each.role == role and each.until), None)
    if mine is None:
        return skipped(
            "the daemon announces none now", "see its token's state in `dongled status`", role.value
        )
    days = mine.not_after / DAY
    if mine.not_after <= 0:
        return failed(f"its certificate ended {mine.until}", RENEW, role.value)
    if mine.not_after < min(SOON.total_seconds(), mine.life / 5):
        return warning(f"its certificate ends {mine.until}, in {days:.0f} days", RENEW, role.value)
    return ok(f"{mine.subject} until {mine.until}, {days:.0f} days", role.value)


async def _chain(settings: Settings, role: KeyRole, pin: KeyPin) -> list[bytes]:
    """As the daemon chooses it; where none is the key's, one that stands in its place."""
    if pin.certificate is not None:
        return list(wiring.read_chain(pin.certificate))
    stored = [[der] for der in await _stored(settings, role, pin)]
    kept = KeptChains(settings.state.directory).load(role)
    mine = [chain for chain in (kept, *stored) if chain and _of(pin, chain[0])]
    return max(mine, key=lambda chain: describe.issued_at(chain[0]), default=stored[0] if stored else kept)


def _of(pin: KeyPin, certificate: bytes) -> bool:
    point = describe.certified_point(certificate)
    return point is not None and describe.public_key_sha256(point) == pin.digest


async def _stored(settings: Settings, role: KeyRole, pin: KeyPin) -> list[bytes]:
    """Those on the token with the key's CKA_ID: certificates are public objects. Raises TokenError."""
    second = settings.data_token if role is KeyRole.DATA else None
    token: TokenPlace | None = second or settings.token
    assert token is not None
    session = await open_session(str(token.module), token.uri, NoPin(), frozenset(), ledger=MemoryLedger())
    try:
        return [each.der for each in await session.found_certificates() if each.cka_id == pin.cka_id]
    finally:
        await session.close()


CHECK = Check("certificates", "The certificates are the keys', and last", look)
