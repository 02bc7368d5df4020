"""Which PINs were refused, so that none is tried twice: three wrong tries lock a card."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum, auto
from typing import Protocol

from dongled.tokens.errors import TokenError
from dongled.tokens.failures import PIN_REFUSED, DeadlinePassed, ModuleFault, WorkerLost

_POLL_SECONDS = 0.01

# The module's way of saying that something went wrong somewhere.
_PERHAPS_JUDGED = frozenset({"DeviceError", "FunctionFailed", "GeneralError", "PKCS11Error"})


class PinLedger(Protocol):
    """Remembers how PINs fared, by the token's serial number and the source's version; never a PIN."""

    def attempt(
        self, serial: str, version: tuple[str, ...], description: str
    ) -> AbstractAsyncContextManager[None]:
        """Hold this around the one C_Login of an attempt.

        Raises TokenError, before anything is tried, when this PIN was refused or its fate is unknown.
        """


class _Verdict(Enum):
    ACCEPTED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


class MemoryLedger:
    """A ledger that lives as long as the process."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[str, tuple[str, ...]], _Verdict] = {}
        self._trying: set[tuple[str, tuple[str, ...]]] = set()

    @asynccontextmanager
    async def attempt(self, serial: str, version: tuple[str, ...], description: str) -> AsyncIterator[None]:
        key = (serial, version)
        # Somebody else's attempt with the same PIN, perhaps on another thread's loop, decides for both.
        while key in self._trying:  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
            await asyncio.sleep(_POLL_SECONDS)
        before = self._verdicts.get(key)
        if before is _Verdict.REFUSED:
            raise TokenError(
                "pin-refused-before",
                f"the token refused the PIN from {description} before; it is not tried again",
                "put the right PIN in its place: a source that has changed is tried once",
            )
        if before is _Verdict.UNKNOWN:
            raise TokenError(
                "pin-in-doubt",
                f"the token failed while it judged the PIN from {description}; it is not tried again",
                "check the PIN, then write it anew: a source that has changed is tried once",
            )
        self._trying.add(key)
        try:
            yield
        except BaseException as error:
            verdict = _verdict_after(error)
            # A PIN that opened the token before is not doubted because a worker died.
            if verdict is _Verdict.REFUSED or (verdict is not None and before is not _Verdict.ACCEPTED):
                self._verdicts[key] = verdict
            raise
        else:
            self._verdicts[key] = _Verdict.ACCEPTED
        finally:
            self._trying.discard(key)


def _verdict_after(error: BaseException) -> _Verdict | None:
    """What a failed login says of the PIN; None when the token cannot have judged it."""
    if isinstance(error, ModuleFault):
        if error.name in PIN_REFUSED:
            return _Verdict.REFUSED
        return _Verdict.UNKNOWN if error.name in _PERHAPS_JUDGED else None
    if isinstance(error, TokenError) and not isinstance(error, WorkerLost | DeadlinePassed):
        return None
    return _Verdict.UNKNOWN


PROCESS_LEDGER = MemoryLedger()
