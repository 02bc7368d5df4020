"""A meeting as its configuration has it: joined, lost, joined again, each time as a new session."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.logs.events import Event
from dongled.agent.meetings.journal import Journal
from dongled.capture.errors import CaptureError
from dongled.config.api import MeetingSettings
from dongled.media.errors import MediaError
from dongled.tokens.errors import TokenError

log = logging.getLogger(__name__)

# Full jitter: a fleet that lost its SFU together does not come back together.
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 4.0
# A session that held this long starts the backoff afresh.
SETTLED = 30.0
# What ends each try in the same way is told again so seldom, seconds: an SFU may be gone for days.
TELL_EVERY = 60.0


class Session(Protocol):
    """One stay in the room."""

    @property
    def name(self) -> str: ...

    async def run(self, joined: Callable[[], None]) -> str: ...


class Meeting:
    """Keeps one meeting going until cancelled. ``open_session`` makes a session with fresh keys."""

    def __init__(
        self,
        settings: MeetingSettings,
        open_session: Callable[[], Session],
        journal: Journal,
        ready: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """``ready``: what to wait for before each session."""
        self.settings = settings
        self.journal = journal
        self.session: Session | None = None
        self.state = "waiting"
        self.why = self.hint = ""
        self.started_monotonic: float | None = None
        self.joined_at: float | None = None
        self._open_session = open_session
        self._ready = ready

    async def run(self) -> None:
        """Returns only by cancellation. Whatever ends a session, there is another."""
        pause, told, told_at = BACKOFF_FIRST, "", 0.0
        while True:
            if self._ready is not None:
                await self._ready()
            self.state, self.started_monotonic, self.joined_at = "connecting", time.monotonic(), None
            reason = ""
            try:
                self.session = self._open_session()
                self.why, self.hint = await self.session.run(self._joined), ""
            except (AgentError, CaptureError, MediaError, TokenError) as error:
                self.why, self.hint, reason = f"{error} [{error.reason}]", error.hint, error.reason
            except Exception as error:
                # Ours, whatever brought it on: an SFU that finds one must not end the other meetings.
                self.why, self.hint, reason = f"{error} [defect]", "", "defect"
                log.error("meeting %s: %s", self.settings.name, error, exc_info=error)
            if self.joined_at is not None and boottime() - self.joined_at > SETTLED:
                pause = BACKOFF_FIRST
            text = f"{'not joined' if self.joined_at is None else 'left the room'}: {self.why}"
            text += f"; {self.hint}" if self.hint else ""
            self.state, self.joined_at = "waiting", None
            if text != told or boottime() - told_at >= TELL_EVERY:
                told, told_at = text, boottime()
                self.journal.event(Event.MEETING_LEFT, text, reason=reason, why=self.why)
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(BACKOFF_MOST, 2 * pause)

    def _joined(self) -> None:
        self.state, self.joined_at = "joined", boottime()
        session = self.session.name if self.session else ""
        self.journal.event(Event.MEETING_JOINED, "joined the room", session=session)

    def muted(self, why: str) -> None:
        """The session stays in the room without keys; it ends when it can be replaced."""
        self.state, self.why, self.hint = "muted", why, ""
        self.journal.event(Event.MEETING_MUTED, f"muted: {why}", why=why)
