"""What is recorded: verdicts, approvals, expulsions, and what the daemon knows about the log itself."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dongled.agent.audit.file import AuditFile
from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyUndecided
from dongled.agent.tasks import aside

log = logging.getLogger(__name__)

QUIET = 60.0  # seconds in which the same is not recorded again
BUDGET = 60  # records that others can cause in that time
KEPT = 512  # of what was recorded lately
WAITING = 1_000  # records that the disk has not taken yet
RETRY = 10.0  # seconds
PATIENCE = 8.0  # seconds in which the disk has to write, and that the end waits for it
TEXT = 500  # characters

# Whoever is on the bus can cause these as often as it likes.
CAUSED = frozenset({"held", "refused", "turned-away", "alarm"})


class AuditLog:
    """Records on the event loop, writes in a thread. ``trusted``: is the time vouched for?

    What cannot be written is kept in memory and tried again; ``required``: meanwhile nothing is granted.
    """

    def __init__(
        self,
        directory: Path,
        *,
        most: int,
        keep: int,
        required: bool,
        trusted: Callable[[], bool],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = boottime,
    ) -> None:
        self._open = partial(AuditFile, directory, most=most, keep=keep)
        self._required = required
        self._trusted, self._wall, self._steady = trusted, wall, steady
        self._file: AuditFile | None = None
        self._waiting: deque[dict[str, Any]] = deque()
        self._lately: OrderedDict[tuple[Any, ...], float] = OrderedDict()
        self._spent: deque[float] = deque()
        self._omitted = 0
        self._wake = asyncio.Event()
        self._learned: Callable[[], None] = lambda: None
        self._writing = threading.Lock()
        self.why: AgentError | None = None

    def on_learned(self, learned: Callable[[], None]) -> None:
        """Call ``learned`` when writing failed, or works again."""
        self._learned = learned

    def record(self, event: str, **fields: Any) -> None:
        """``fields`` hold nothing secret. What repeats itself, and what floods, is counted instead."""
        now = self._steady()
        if event in CAUSED and not self._has_room(now, (event, *(repr(value) for value in fields.values()))):
            self._omitted += 1
            return
        if len(self._waiting) >= WAITING:
            self._omitted += 1
            return
        time = self._wall().astimezone(UTC).isoformat(timespec="milliseconds")
        told: dict[str, Any] = {
            "time": time,
            "clock": "trusted" if self._trusted() else "untrusted",
            "event": event,
        }
        told |= {key: value[:TEXT] if isinstance(value, str) else value for key, value in fields.items()}
        if self._omitted:
            told["omitted"], self._omitted = self._omitted, 0
        self._waiting.append(told)
        self._wake.set()

    def _has_room(self, now: float, what: tuple[Any, ...]) -> bool:
        if now - self._lately.get(what, float("-inf")) < QUIET:
            return False
        while self._spent and now - self._spent[0] >= QUIET:
            self._spent.popleft()
        if len(self._spent) >= BUDGET:
            return False
        self._spent.append(now)
        self._lately[what] = now
        self._lately.move_to_end(what)
        while len(self._lately) > KEPT:
            self._lately.popitem(last=False)
        return True

    def require(self) -> None:
        """Raises PolicyUndecided where nothing may be granted that cannot be recorded."""
        if self._required and self.why is not None:
            raise PolicyUndecided("audit-failed", str(self.why), self.why.hint)

    def start(self) -> None:
        """Open it. Raises AgentError where it is required and cannot be written."""
        self._write()
        if self._required and self.why is not None:
            raise self.why

    async def run(self) -> None:
        """Until cancelled; then what waits is written, unless the disk hangs."""
        try:
            while True:
                self._wake.clear()
                before = self.why
                hung = await self._written()
                if hung or (before is None) != (self.why is None):
                    self._learned()
                if self.why is None:
                    await self._wake.wait()
                else:
                    await asyncio.sleep(RETRY)
        finally:
            try:
                async with asyncio.timeout(PATIENCE):
                    await aside(self._finish)
            except TimeoutError:
                log.error("the audit log's disk hangs, and what waits for it is lost")

    async def _written(self) -> bool:
        """Write. Did the disk hang? As long as it does, it is one that cannot be written."""
        writing = asyncio.ensure_future(aside(self._write))
        try:
            done, _ = await asyncio.wait({writing}, timeout=PATIENCE)
            if not done:
                self._failed(
                    AgentError(
                        "audit-unwritable",
                        f"the audit log's disk has not written for {PATIENCE:g} s",
                        "see whether the disk, or the server that it is on, still answers",
                    )
                )
                self._learned()
            await writing
        finally:
            writing.cancel()
        return not done

    def _finish(self) -> None:
        self._write()
        with self._writing:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self) -> None:
        # A thread that was left to itself may still be at it.
        with self._writing:
            self._write_all()

    def _write_all(self) -> None:
        try:
            self._file = self._file or self._open()
            while self._waiting:
                self._file.append(self._waiting[0])
                self._waiting.popleft()
        except AgentError as error:
            self._failed(error)
        except Exception as error:
            name = type(error).__name__
            if self.why is None:
                log.error("a defect of the audit log", exc_info=error)
            self._failed(
                AgentError(
                    "audit-defect",
                    f"the audit log cannot be written: {name}",
                    "please report it: dongled bugreport",
                )
            )
            if self._waiting and not _is_json(self._waiting[0]):
                # Tried again it would keep all others waiting; that there was one is told.
                kept = {key: self._waiting[0][key] for key in ("time", "clock", "event")}
                self._waiting[0] = {**kept, "lost": name}
        else:
            if self.why is not None:
                log.warning("the audit log can be written again")
            self.why = None

    def _failed(self, error: AgentError) -> None:
        if self.why is None:
            log.error("%s [%s]; %s", error, error.reason, error.hint)
        self.why = error


def _is_json(record: dict[str, Any]) -> bool:
    try:
        json.dumps(record)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
