"""The ledger of refused PINs, kept over restarts.

A restart loop with a wrong PIN locks a card in three restarts, so whatever is wrong with the file closes:

1. What is to be tried is written down, as of unknown fate, before the token is given it: a power cut or a
   kill in the middle leaves a PIN that is not tried again.
2. A file that cannot be written, or read, or made sense of, means that no PIN is tried.
3. One process at a time tries: two that start together spend one try.

A PIN that the token once accepted is tried without writing anything.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import POLL_SECONDS, Attempted, MemoryLedger, Verdict
from dongled.tokens.owner import give_away

log = logging.getLogger(__name__)

NAME = "pins.json"
FORMAT = 1
# The oldest are forgotten: their sources have long changed.
MOST = 256
MAX_SIZE = 1 << 20  # bytes


class FileLedger(MemoryLedger):
    """``pins.json`` in a directory, which is made if it is not there.

    It holds tokens' serial numbers, and of each PIN source its name and what tells its versions apart.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._path = directory / NAME

    @asynccontextmanager
    async def _attempt(self, tried: Attempted, description: str) -> AsyncIterator[None]:
        async with self._alone():
            with self._telling_the_way_out():
                async with super()._attempt(tried, description):
                    yield

    async def check(self, serial: str, version: tuple[str, ...], description: str) -> None:
        with self._telling_the_way_out():
            await super().check(serial, version, description)

    @contextmanager
    def _telling_the_way_out(self) -> Iterator[None]:
        try:
            yield
        except TokenError as error:
            if error.reason in ("pin-refused-before", "pin-in-doubt"):
                error.hint += f"; one that cannot change is, after {self._path} was removed"
            raise

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = _lock_file(self._path.with_suffix(".lock"))
        except OSError as error:
            raise self._unusable(error) from None
        try:
            while not _locked(lock):  # noqa: ASYNC110 - another process holds it
                await asyncio.sleep(POLL_SECONDS)
            yield
        finally:
            os.close(lock)

    async def _verdict(self, tried: Attempted) -> Verdict | None:
        # What could not be written holds while this process lives.
        if (kept := self._verdicts.get(tried)) is not None:
            return kept
        return (await asyncio.to_thread(self._read)).get(tried)

    async def _note(self, tried: Attempted, verdict: Verdict | None) -> None:
        """Raises TokenError only for what is noted before a try; what it came to is kept in memory."""
        try:
            await asyncio.to_thread(self._write, tried, verdict)
        except (OSError, TokenError) as error:
            if verdict is Verdict.UNKNOWN:
                raise self._unusable(error) from None
            log.warning("how the PIN fared cannot be kept in %s: %s", self._path, error)
            if verdict is not None:
                self._verdicts[tried] = verdict

    def _read(self) -> dict[Attempted, Verdict]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from None
        try:
            return _parsed(json.loads(data))
        except (ValueError, TypeError, LookupError, RecursionError):
            raise TokenError(
                "pin-ledger",
                f"{self._path}, which tells what PINs were refused, is damaged; so none is tried",
                "make sure that the PIN is right, then remove the file",
            ) from None

    def _write(self, tried: Attempted, verdict: Verdict | None) -> None:
        verdicts = self._read()
        verdicts.pop(tried, None)
        if verdict is not None:
            verdicts[tried] = verdict
        newest = list(verdicts.items())[-MOST:]
        tries = [{"serial": serial, "source": version, "verdict": kept} for (serial, version), kept in newest]
        new = self._path.with_suffix(".new")
        try:
            # Under the lock nobody else writes; what a killed process left is not trusted to be ours.
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                give_away(file.fileno(), self._path.parent)
                json.dump({"format": FORMAT, "tries": tries}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def _unusable(self, error: OSError | TokenError) -> TokenError:
        if isinstance(error, TokenError):
            return error
        return TokenError(
            "pin-ledger",
            f"what PINs were refused cannot be kept in {self._path} ({error.strerror}); so none is tried",
            "name a directory in [state] that the user dongled runs as can write to",
        )


def _lock_file(path: Path) -> int:
    """Open it, and make it where it is not there. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        lock = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    try:
        give_away(lock, path.parent)
    except OSError:
        os.close(lock)
        raise
    return lock


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parsed(content: Any) -> dict[Attempted, Verdict]:
    """Raises ValueError, TypeError or LookupError."""
    if content["format"] != FORMAT:
        raise ValueError("of another version")
    verdicts = {}
    for entry in content["tries"]:
        serial, source = entry["serial"], entry["source"]
        if not isinstance(serial, str) or not all(isinstance(part, str) for part in source):
            raise TypeError
        verdicts[serial, tuple(source)] = Verdict(entry["verdict"])
    return verdicts
