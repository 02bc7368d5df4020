"""Renews a running daemon's certificates in time, and gets the first ones where there are none."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from dongled.agent.clock import boottime
from dongled.agent.enrolment.enroller import ROLES, Enroller
from dongled.agent.enrolment.est import Pending
from dongled.agent.enrolment.schedule import (
    EACH,
    SETTLED,
    SPREAD,
    jitter_of,
    seconds_to_first,
    seconds_to_renewal,
)
from dongled.agent.errors import AgentError
from dongled.agent.logs.events import Event, about
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import TrustedClock
from dongled.config.errors import ConfigError
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError

log = logging.getLogger(__name__)

LONGEST = 3600.0  # seconds of one sleep: a clock that was set meanwhile is noticed
CLOCK_PAUSE = 60.0  # seconds, while nobody vouches for the time
LEAST_WAIT = 60.0  # seconds, whatever the platform asks for
# Asking again soon changes nothing, and may lock an account: as after so many failures.
REFUSED = {"est-credentials": SETTLED, "est-forbidden": SETTLED}


@dataclass(slots=True)
class RoleState:
    """``due`` in seconds of the steady clock; ``why`` is what came of the last try, empty after success.

    ``blind``: something is missing yet; at ``due`` that is looked at again, and nothing asked.
    """

    due: float = 0.0
    blind: bool = False
    failures: int = 0
    why: str = ""


class Renewal:
    """``changed`` is called when another certificate is in use than before, whoever got it."""

    def __init__(
        self,
        enroller: Enroller,
        clock: TrustedClock,
        changed: Callable[[], None],
        *,
        steady: Callable[[], float] = boottime,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._enroller = enroller
        self._clock = clock
        self._changed = changed
        self._steady = steady
        self._sleep = sleep
        self._draw = draw
        self._jitter = jitter_of(enroller.terminal)
        self._chains = {role: enroller.chain(role) for role in ROLES}
        self.roles = {role: RoleState() for role in ROLES}

    def due_in(self, role: KeyRole) -> float:
        """Seconds until something is done about this certificate."""
        return self.roles[role].due - self._steady()

    async def run(self) -> None:
        """Until cancelled."""
        await self._enroller.finish()
        for role in ROLES:
            self._plan(role)
        while True:
            role = min(ROLES, key=lambda role: self.roles[role].due)
            wait = self.roles[role].due - self._steady()
            if wait <= 0 and self.roles[role].blind:
                self._plan(role)
            elif wait <= 0:
                await self._try(role)
            else:
                await self._sleep(min(wait, LONGEST))
                self._plan_again()
            self._look()

    async def _try(self, role: KeyRole) -> None:
        state = self.roles[role]
        try:
            enrolled = await self._enroller.enrol(role)
        except Pending as pending:
            state.why = f"{pending} [{pending.reason}]"
            log.info("%s certificate: %s", role, state.why)
            state.due = self._steady() + max(LEAST_WAIT, pending.wait)
            return
        except (AgentError, ConfigError, PolicyRefused, TokenError) as error:
            state.failures = max(state.failures + 1, REFUSED.get(error.reason, 0))
            state.why = f"{error} [{error.reason}]"
            fields = about(Event.RENEWAL_FAILED, key=role, reason=error.reason)
            log.warning("no new %s certificate: %s; %s", role, state.why, error.hint, extra=fields)
            if isinstance(error, TokenError):
                # It may only be out for a moment, and nobody else was asked.
                self._plan(role)
                state.due = min(state.due, self._steady() + LONGEST)
                return
        else:
            state.failures, state.why = 0, ""
            until = enrolled.certificate.not_valid_after_utc.isoformat(timespec="minutes")
            fields = about(Event.CERTIFICATE_RENEWED, key=role, until=until)
            log.info("a new %s certificate, until %s", role, until, extra=fields)
        self._plan(role)

    def _plan(self, role: KeyRole) -> None:
        state = self.roles[role]
        if role is KeyRole.DATA and not self._enroller.chain(KeyRole.IDENTITY):
            state.due, state.blind = self._steady() + LONGEST, True
            return
        try:
            seconds, state.blind = self._seconds(role, state.failures, self._clock.now()), False
        except PolicyRefused:
            # What would be issued could not be judged, and a one-time code would be spent on it.
            seconds, state.blind = CLOCK_PAUSE, True
        state.due = self._steady() + seconds

    def _plan_again(self) -> None:
        for role, state in self.roles.items():
            if not state.why and state.due - self._steady() > SPREAD:
                self._plan(role)

    def _seconds(self, role: KeyRole, failures: int, now: datetime) -> float:
        certificate = self._enroller.certificate(role)
        if certificate is None:
            return seconds_to_first(self._draw(), failures)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return seconds_to_renewal(begin, end, now, self._jitter, self._draw(), failures)

    def _look(self) -> None:
        chains = {role: self._enroller.chain(role) for role in ROLES}
        if chains != self._chains:
            self._chains = chains
            for role, state in self.roles.items():
                if state.blind:
                    self._plan(role)
            self._changed()


def seconds_to_retire(leaves: Sequence[bytes]) -> float:
    """How long sessions may go on with these certificates (DER): all but the last 4 % of their life.

    By the system's clock, as others judge them by theirs.
    """
    found = [x509.load_der_x509_certificate(leaf) for leaf in leaves]
    lasts = [
        (each.not_valid_after_utc - EACH * (each.not_valid_after_utc - each.not_valid_before_utc))
        for each in found
    ]
    return max(0.0, (min(lasts) - datetime.now(UTC)).total_seconds())
