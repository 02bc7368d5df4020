"""The daemon's side of a worker: requests in turn, each with a deadline, and a new worker for a dead one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from dongled.tokens.api import Rank
from dongled.tokens.errors import TokenError
from dongled.tokens.failures import POISONED, DeadlinePassed, ModuleFault, WorkerLost
from dongled.tokens.link import WorkerLink
from dongled.tokens.turns import Place, Turns

# Seconds. A real card takes 50 to 200 ms for a signature; a card that is slower than this is broken.
DEADLINES: dict[str, float] = {"sign": 5.0, "derive": 5.0, "generate": 60.0, "init_token": 60.0}
DEFAULT_DEADLINE = 15.0

# What may be asked again when its worker died: it changes nothing on the token.
_REPEATABLE = frozenset({"tokens", "agrees", "keys", "certificates", "sign", "derive"})

# Who opens a token or looks whether it is there: rare, quick, and what everything else waits for.
FIRST = Place(Rank.BEACON)

_BACKOFF_FIRST = 0.25
_BACKOFF_MOST = 30.0
_BACKOFF_FORGIVEN_AFTER = 60.0


class Clock(Protocol):
    """Time for the backoff, so that tests need not wait."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Backoff:
    """When a worker may be started: the first at once, after each that failed twice as late as before."""

    def __init__(self) -> None:
        self._failures = 0
        self._not_before = 0.0
        self._last_failure = 0.0

    def failed(self, now: float) -> None:
        if now - self._last_failure > _BACKOFF_FORGIVEN_AFTER:
            self._failures = 0
        if self._failures:
            self._not_before = now + min(_BACKOFF_MOST, _BACKOFF_FIRST * 2 ** min(self._failures - 1, 10))
        self._failures += 1
        self._last_failure = now

    def wait(self, now: float) -> float:
        """Seconds from now until a worker may be started."""
        return max(0.0, self._not_before - now)


Ask = Callable[..., Awaitable[Any]]
"""``await ask(operation, **arguments)``: a request to this very worker, without a new one in its place."""

Opener = Callable[[Ask], Awaitable[None]]
"""Brings a fresh worker to where requests can be served: finds the token, logs in, checks the keys."""


@dataclass(slots=True, eq=False)
class _Request:
    operation: str
    arguments: dict[str, Any]
    answer: asyncio.Future[Any]


class Broker:
    """One module's worker, kept alive. Requests are served one at a time, in turn (``Turns``)."""

    def __init__(self, module: str, *, clock: Clock | None = None, deadlines: dict[str, float] | None = None):
        self.module = module
        self.respawns = 0
        self._clock = clock or SystemClock()
        self._deadlines = DEADLINES | (deadlines or {})
        self._backoff = Backoff()
        self._openers: list[Opener] = []
        self._link: WorkerLink | None = None
        self._started = False
        self._waiting = Turns[_Request]()
        self._server: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def worker_pid(self) -> int | None:
        """The running worker's process id."""
        return self._link.pid if self._link is not None else None

    def add_opener(self, opener: Opener) -> None:
        """Have this run in every worker from the next one on, before any request."""
        self._openers.append(opener)

    async def call(self, operation: str, place: Place = FIRST, /, **arguments: Any) -> Any:
        """Ask the module. A worker that dies is replaced, and a request that changes nothing asked again.

        Raises TokenError. A caller that is cancelled leaves the queue; what runs already, runs on.
        """
        if self._closed:
            raise _closed()
        if self._server is None:
            self._server = asyncio.create_task(self._serve(), name="token broker")
        request = _Request(operation, arguments, asyncio.get_running_loop().create_future())
        self._waiting.put(request, place)
        try:
            return await request.answer
        finally:
            self._waiting.leave(request, place)

    async def close(self) -> None:
        """End the worker. Whoever still waits gets an error."""
        self._closed = True
        if self._server is not None:
            self._server.cancel()
            with suppress(asyncio.CancelledError):
                await self._server
        for request in self._waiting.drain():
            if not request.answer.done():
                request.answer.set_exception(_closed())
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _serve(self) -> None:
        while True:
            request = await self._waiting.next()
            try:
                result = await self._perform(request)
            except asyncio.CancelledError:
                if not request.answer.done():
                    request.answer.set_exception(_closed())
                raise
            # The server outlives whatever goes wrong with one request; who asked is told.
            except Exception as error:  # noqa: BLE001 - handed to the caller
                if not request.answer.done():
                    request.answer.set_exception(error)
            else:
                if not request.answer.done():
                    request.answer.set_result(result)

    async def _perform(self, request: _Request) -> Any:
        try:
            return await self._attempt(request)
        except WorkerLost:
            if request.operation not in _REPEATABLE:
                raise
        except ModuleFault as fault:
            if fault.name not in POISONED or request.operation not in _REPEATABLE:
                raise
        return await self._attempt(request)

    async def _attempt(self, request: _Request) -> Any:
        link = await self._ready()
        try:
            return await self._ask(link, request.operation, request.arguments)
        except (WorkerLost, DeadlinePassed):
            self._lost(link)
            raise
        except ModuleFault as fault:
            if fault.name in POISONED:
                await link.kill()
                self._lost(link)
            raise

    async def _ready(self) -> WorkerLink:
        """The running worker, or a new one in which the openers have run."""
        if self._link is not None:
            if self._link.alive:
                return self._link
            await self._link.kill()
            self._lost(self._link)
        await self._wait_out_backoff()
        self.respawns += self._started
        self._started = True
        try:
            link = self._link = await WorkerLink.start(self.module)
        except TokenError:
            self._backoff.failed(self._clock.now())
            raise

        async def ask(operation: str, **arguments: Any) -> Any:
            return await self._ask(link, operation, arguments)

        try:
            for opener in self._openers:
                await opener(ask)
        except BaseException:
            # A failed login leaks its session, and a token that was refused must not stay open.
            await link.kill()
            self._lost(link)
            raise
        return link

    async def _wait_out_backoff(self) -> None:
        wait = self._backoff.wait(self._clock.now())
        if wait > DEFAULT_DEADLINE:
            raise TokenError(
                "worker-backoff",
                f"the token's worker keeps failing; the next try is in {wait:.0f} s",
                "the log says what it failed on",
            )
        if wait > 0:
            await self._clock.sleep(wait)

    async def _ask(self, link: WorkerLink, operation: str, arguments: dict[str, Any]) -> Any:
        return await link.request(operation, arguments, self._deadlines.get(operation, DEFAULT_DEADLINE))

    def _lost(self, link: WorkerLink) -> None:
        if self._link is link:
            self._link = None
            self._backoff.failed(self._clock.now())


def _closed() -> TokenError:
    return TokenError("token-closed", "the token was closed", "")
