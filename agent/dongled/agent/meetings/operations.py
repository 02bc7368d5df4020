"""What the protocol's machine asks of the token, each with the rank that it has there, and for evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from dongled.agent.clock import boottime
from dongled.agent.policy.evidence import EvidenceSource
from dongled.agent.protocol.api import Abandoned, DeriveWanted, EvidenceWanted, SignWanted
from dongled.agent.protocol.member import Member
from dongled.agent.tasks import OwnedTasks
from dongled.tokens.api import Rank, TokenKeys
from dongled.tokens.errors import TokenError

T = TypeVar("T")


class Operations:
    """Carries out one machine's operations. After each answer ``answered`` is called, on the event loop.

    ``failed`` is told why the token did not do it, after the machine was.
    """

    def __init__(
        self,
        member: Member,
        keys: TokenKeys,
        tasks: OwnedTasks,
        answered: Callable[[], None],
        failed: Callable[[TokenError], None],
        show: EvidenceSource,
    ) -> None:
        self._member = member
        self._keys = keys
        self._tasks = tasks
        self._answered = answered
        self._failed = failed
        self._show = show
        self._running: dict[int, asyncio.Task[None]] = {}

    def carry_out(self, effect: SignWanted | DeriveWanted | EvidenceWanted | Abandoned) -> None:
        match effect:
            case SignWanted(operation, digest, kind):
                rank = Rank.BEACON if kind == "presence" else Rank.ANNOUNCEMENT
                self._begin(operation, partial(self._keys.sign, digest, rank), self._member.signed)
            case DeriveWanted(operation, point, terminal):
                self._begin(operation, partial(self._keys.derive, point, terminal), self._member.derived)
            case EvidenceWanted(operation):
                self._begin(operation, partial(self._show, effect), self._member.evidence)
            case Abandoned(operation):
                if (task := self._running.get(operation)) is not None:
                    task.cancel()

    def _begin(
        self, operation: int, work: Callable[[], Awaitable[T]], done: Callable[[int, T, float], None]
    ) -> None:
        task = self._tasks.spawn(self._run(operation, work, done))
        self._running[operation] = task
        task.add_done_callback(lambda _: self._running.pop(operation, None))

    async def _run(
        self, operation: int, work: Callable[[], Awaitable[T]], done: Callable[[int, T, float], None]
    ) -> None:
        try:
            result = await work()
        except TokenError as error:
            self._member.token_failed(operation, error.reason, boottime())
            self._answered()
            self._failed(error)
        else:
            done(operation, result, boottime())
            self._answered()
