"""The floor of trusted time, kept over a restart.

A file of one line. Whatever is wrong with it, the terminal starts: the floor only ever forbids, and without
the file it is the build time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dongled.agent.policy.clock import BUILD_TIME, TrustedClock

log = logging.getLogger(__name__)

MAX_SIZE = 256  # bytes
# A later floor is a broken file: no certificate of ours lives as long.
PLAUSIBLE = timedelta(days=36525)
# Seconds between two writes. A power cut costs at most this, and a memory card lives.
INTERVAL = 3600.0


class FloorFile:
    """``floor.json`` in the state directory, which is made if it is not there."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "floor.json"

    def load(self) -> datetime:
        """The floor that was kept; the build time where none was or the file is broken, with a warning."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
            floor = datetime.fromisoformat(json.loads(data[:MAX_SIZE])["floor"]).astimezone(UTC)
            if not floor < BUILD_TIME + PLAUSIBLE:
                raise ValueError("it is of a far future")
        except FileNotFoundError:
            return BUILD_TIME
        except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
            log.warning("the floor of trusted time in %s is ignored: %s", self._path, error)
            return BUILD_TIME
        return floor

    def save(self, floor: datetime) -> None:
        """Replace the file whole, never by an earlier floor. What cannot be written costs a warning."""
        floor = max(floor, self.load())
        new = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w") as file:
                json.dump({"floor": floor.astimezone(UTC).isoformat(timespec="seconds")}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            log.warning("the floor of trusted time cannot be kept in %s: %s", self._path, error.strerror)
            with suppress(OSError):
                new.unlink(missing_ok=True)


async def keep_floor(clock: TrustedClock, file: FloorFile, interval: float = INTERVAL) -> None:
    """Save the clock's floor now and then, and when cancelled."""
    try:
        while True:
            await asyncio.to_thread(file.save, clock.floor)
            await asyncio.sleep(interval)
    finally:
        file.save(clock.floor)
