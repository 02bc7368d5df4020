"""The policy together with what keeps it current while the daemon runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dongled.agent.audit.log import AuditLog
from dongled.agent.policy.authorizer.api import Authorizer
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.fetch import RevocationFetcher
from dongled.agent.policy.floor import FloorFile, keep_floor
from dongled.agent.policy.network_time import NetworkTime
from dongled.agent.policy.presence import Presence
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.tasks import keep_going


@dataclass(frozen=True, slots=True)
class Trust:
    """``fetcher`` None: revocation is off; ``authorizer`` None: a list says who may watch.

    ``audit`` None: nothing is recorded. ``network_time`` None: another vouches for the time. ``presence``
    None: nobody has to touch anything.
    """

    policy: CertificatePolicy
    clock: TrustedClock
    floor: FloorFile
    fetcher: RevocationFetcher | None
    authorizer: Authorizer | None = None
    audit: AuditLog | None = None
    network_time: NetworkTime | None = None
    presence: Presence | None = None

    def on_learned(self, learned: Callable[[], None]) -> None:
        """Call ``learned`` whenever a certificate may have to be judged otherwise than before."""
        if self.fetcher is not None:
            self.fetcher.on_learned(learned)
        if self.authorizer is not None:
            self.authorizer.on_learned(learned)
        if self.audit is not None:
            self.audit.on_learned(learned)
        if self.network_time is not None:
            self.network_time.on_learned(learned)

    async def run(self) -> None:
        """Until cancelled. A defect in one part stops none of the others: approvals have to end in time."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "keeping the floor of time": lambda: keep_floor(self.clock, self.floor)
        }
        if self.fetcher is not None:
            parts["asking about revocations"] = self.fetcher.run
        if self.authorizer is not None:
            parts["asking who may watch"] = self.authorizer.run
        if self.audit is not None:
            parts["writing the audit log"] = self.audit.run
        if self.network_time is not None:
            parts["asking for the time"] = self.network_time.run
        async with asyncio.TaskGroup() as group:
            for what, run in parts.items():
                group.create_task(keep_going(what, run))
