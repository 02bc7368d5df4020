"""Does each key have a certificate of its own that is valid now, for long enough, and allows its use?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509

from dongled.agent.doctor.api import Finding, failed, fatal, of_error, ok, warning
from dongled.agent.doctor.token.case import Part, TokenCase, opened_check
from dongled.agent.errors import AgentError
from dongled.agent.terminal import own_name
from dongled.agent.wiring import key_pin
from dongled.tokens.api import KeyInfo, KeyRole
from dongled.tokens.checks import key_info, the_key
from dongled.tokens.describe import certified_point
from dongled.tokens.errors import TokenError
from dongled.tokens.provision import check_usage
from dongled.tokens.session import TokenSession

_RENEW = "have it renewed: `dongled enroll --renew`, or `dongled token csr` and `import-cert`"
_SOON = timedelta(days=30)


async def look(case: TokenCase, part: Part, session: TokenSession) -> Iterable[Finding]:
    keys, stored = await session.found_keys(), await session.found_certificates()
    findings: list[Finding] = []
    for role in part.roles:
        try:
            key, point = the_key(role, keys, key_pin(case.pin(role)), session.quirks)
            findings += _judge(case, role, key_info(role, key, point, stored), datetime.now(UTC))
        except (TokenError, AgentError) as error:
            findings.append(of_error(error, role.value))
    return findings


def _judge(case: TokenCase, role: KeyRole, key: KeyInfo, now: datetime) -> Iterator[Finding]:
    """Raises TokenError and AgentError."""
    chain = case.chain(role, key)
    if not chain:
        hint = "`dongled enroll`, or `dongled token csr` and `import-cert`"
        if role is KeyRole.IDENTITY:
            yield fatal("it has no certificate", hint, role.value)
        else:
            yield warning("it has no certificate, and counts as a key in software", hint, role.value)
        return
    if certified_point(chain[0]) != key.point:
        yield failed("its certificate is for another key", "name the right file in the settings", role.value)
        return
    leaf = x509.load_der_x509_certificate(chain[0])
    check_usage(role, leaf)
    name, left = own_name(chain[0]), leaf.not_valid_after_utc - now
    until = leaf.not_valid_after_utc.date().isoformat()
    if left <= timedelta(0):
        yield failed(f"its certificate ended on {until}", _RENEW, role.value)
    elif leaf.not_valid_before_utc > now:
        begin = leaf.not_valid_before_utc.isoformat()
        yield failed(f"its certificate begins on {begin}", "is this machine's clock right?", role.value)
    elif left < min(_SOON, (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 5):
        yield warning(f"its certificate ends on {until}, in {left.days} days", _RENEW, role.value)
    else:
        yield ok(f"{name} until {until}, {left.days} days, for what the key is for", role.value)


CHECK = opened_check("token-certificates", "The certificates are the keys', valid and allow their use", look)
