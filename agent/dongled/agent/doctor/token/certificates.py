"""Does each key have a certificate of its own that is valid now, for long enough, and allows its use?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509

from dongled.agent.doctor.api import Finding, failed, fatal, of_error, ok, warning
from dongled.agent.doctor.token.case import Part, TokenCase, opened_check
from dongled.agent.errors import AgentError
from dongled.agent.terminal import own_name
from dongled.agent.wiring import key_pin
from dongled.tokens.api import KeyRole
from dongled.tokens.checks import key_info, the_key
from dongled.tokens.describe import certified_point, public_key_sha256
from dongled.tokens.errors import TokenError
from dongled.tokens.provision import check_usage
from dongled.tokens.session import TokenSession

RENEW = "have it renewed: `dongled enroll --renew`, or `dongled token csr` and `import-cert`"
SOON = timedelta(days=30)


async def look(case: TokenCase, part: Part, session: TokenSession) -> Iterable[Finding]:
    keys, stored = await session.found_keys(), await session.found_certificates()
    findings: list[Finding] = []
    for role in part.roles:
        try:
            key, point = the_key(role, keys, key_pin(case.pin(role)), session.quirks)
            chain = case.chain(role, key_info(role, key, point, stored))
            findings.append(judge(role, chain, public_key_sha256(point), datetime.now(UTC)))
        except (TokenError, AgentError) as error:
            findings.append(of_error(error, role.value))
    return findings


def judge(role: KeyRole, chain: Sequence[bytes], key: bytes, now: datetime) -> Finding:
    """Of certificates (DER, leaf first), and the public key's SHA-256. Raises TokenError and AgentError."""
    if not chain:
        hint = "`dongled enroll`, or `dongled token csr` and `import-cert`"
        if role is KeyRole.IDENTITY:
            return fatal("it has no certificate", hint, role.value)
        return warning("it has no certificate, and counts as a key in software", hint, role.value)
    point = certified_point(chain[0])
    if point is None or public_key_sha256(point) != key:
        return failed("its certificate is for another key", "name the right one in the settings", role.value)
    leaf = x509.load_der_x509_certificate(chain[0])
    check_usage(role, leaf)
    name, left = own_name(chain[0]), leaf.not_valid_after_utc - now
    until = leaf.not_valid_after_utc.date().isoformat()
    if left <= timedelta(0):
        return failed(f"its certificate ended on {until}", RENEW, role.value)
    if leaf.not_valid_before_utc > now:
        begin = leaf.not_valid_before_utc.isoformat()
        return failed(f"its certificate begins on {begin}", "is this machine's clock right?", role.value)
    if left < min(SOON, (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 5):
        return warning(f"its certificate ends on {until}, in {left.days} days", RENEW, role.value)
    return ok(f"{name} until {until}, {left.days} days, for what the key is for", role.value)


CHECK = opened_check("token-certificates", "The certificates are the keys', valid and allow their use", look)
