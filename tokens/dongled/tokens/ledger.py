"""Which PINs were refused, so that none is tried twice: three wrong tries lock a card."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from typing import Protocol

from dongled.tokens.errors import TokenError
from dongled.tokens.failures import PIN_REFUSED, DeadlinePassed, ModuleFault, WorkerLost

POLL_SECONDS = 0.01

# The module's way of saying that something went wrong somewhere.
_PERHAPS_JUDGED = frozenset({"DeviceError", "FunctionFailed", "GeneralError", "PKCS11Error"})


class PinLedger(Protocol):
    """Remembers how PINs fared, by the token's serial number and the source's version; never a PIN."""

    async def check(self, serial: str, version: tuple[str, ...], description: str) -> None:
        """Raises TokenError when this PIN was refused, without trying it."""

    def attempt(
        self, serial: str, version: tuple[str, ...], description: str
    ) -> AbstractAsyncContextManager[None]:
        """Hold this around the one C_Login of an attempt.

        Raises TokenError, before anything is tried, when this PIN was refused or its fate is unknown.
        """


class Verdict(StrEnum):
    """How a PIN fared."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


Attempted = tuple[str, tuple[str, ...]]
"""A token's serial number, and the version of a PIN source."""


class MemoryLedger:
    """A ledger that lives as long as the process."""

    def __init__(self) -> None:
        self._verdicts: dict[Attempted, Verdict] = {}
        self._trying: set[Attempted] = set()

    async def check(self, serial: str, version: tuple[str, ...], description: str) -> None:
        # One of unknown fate may be somebody else's, who is just trying it: the attempt itself tells.
        if await self._verdict((serial, version)) is Verdict.REFUSED:
            check_untried(Verdict.REFUSED, description)

    @asynccontextmanager
    async def attempt(self, serial: str, version: tuple[str, ...], description: str) -> AsyncIterator[None]:
        tried = (serial, version)
        # Somebody else's attempt with the same PIN, perhaps on another thread's loop, decides for both.
        while tried in self._trying:  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
            await asyncio.sleep(POLL_SECONDS)
        self._trying.add(tried)
        try:
            async with self._attempt(tried, description):
                yield
        finally:
            self._trying.discard(tried)

    @asynccontextmanager
    async def _attempt(self, tried: Attempted, description: str) -> AsyncIterator[None]:
        before = await self._verdict(tried)
        check_untried(before, description)
        if before is None:
            # Until it is known better: whoever dies meanwhile must not try it again.
            await self._note(tried, Verdict.UNKNOWN)
        try:
            yield
        except BaseException as error:
            verdict = _verdict_after(error)
            # A PIN that opened the token before is not doubted because a worker died.
            if before is None or verdict is Verdict.REFUSED:
                await self._note(tried, verdict)
            raise
        if before is None:
            await self._note(tried, Verdict.ACCEPTED)

    async def _verdict(self, tried: Attempted) -> Verdict | None:
        return self._verdicts.get(tried)

    async def _note(self, tried: Attempted, verdict: Verdict | None) -> None:
        if verdict is None:
            del self._verdicts[tried]
        else:
            self._verdicts[tried] = verdict


def check_untried(before: Verdict | None, description: str) -> None:
    """Raises TokenError for a PIN that was refused, or whose fate is unknown."""
    if before is Verdict.REFUSED:
        raise TokenError(
            "pin-refused-before",
            f"the token refused the PIN from {description} before; it is not tried again",
            "put the right PIN in its place: a source that has changed is tried once",
        )
    if before is Verdict.UNKNOWN:
        raise TokenError(
            "pin-in-doubt",
            f"the token failed while it judged the PIN from {description}; it is not tried again",
            "check the PIN, then write it anew: a source that has changed is tried once",
        )


def _verdict_after(error: BaseException) -> Verdict | None:
    """What a failed login says of the PIN; None when the token cannot have judged it."""
    if isinstance(error, ModuleFault):
        if error.name in PIN_REFUSED:
            return Verdict.REFUSED
        return Verdict.UNKNOWN if error.name in _PERHAPS_JUDGED else None
    if isinstance(error, TokenError) and not isinstance(error, WorkerLost | DeadlinePassed):
        return None
    return Verdict.UNKNOWN


PROCESS_LEDGER = MemoryLedger()
