"""Whether the daemon is alive, told to the service manager: it kills and restarts what is not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from dongled.agent.meetings.encrypted import EncryptedSession
from dongled.agent.meetings.meeting import Meeting
from dongled.agent.meetings.plain import PlainSession
from dongled.agent.notify import Notifier

log = logging.getLogger(__name__)

# Without a watchdog there is still a status to keep fresh, seconds.
STATUS_EVERY = 5.0

# A source by the session and the stream that it feeds.
Source = tuple[str, str]


class Progress:
    """Which sources have given nothing for longer than ``patience`` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last: dict[Source, tuple[int, float]] = {}

    def stalled(self, pictures: Mapping[Source, int], now: float) -> list[Source]:
        """``pictures`` counts those of each source that should be giving some; one left out is forgotten."""
        self._last = {
            source: (count, now) if self._last.get(source, (None,))[0] != count else self._last[source]
            for source, count in pictures.items()
        }
        return [source for source, (_, since) in self._last.items() if now - since > self._patience]


class Vitality:
    """Feeds the watchdog from the event loop, so that a loop that hangs feeds nothing.

    A source that stalls without an error starves it too. A source that failed has ended its session, and
    a meeting that waits to try again, for whatever the network does, has no source that should be running.
    """

    def __init__(
        self,
        notifier: Notifier,
        meetings: Iterable[Meeting],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._meetings = meetings
        self._clock = clock
        # Half for the source, and the whole for systemd: a stall ends within one and a half.
        self._progress = Progress(notifier.watchdog / 2)
        self._every = notifier.watchdog / 4 or STATUS_EVERY
        self._stalled: list[Source] = []

    async def run(self) -> None:
        """Until cancelled."""
        while self._notifier:
            self.turn()
            await asyncio.sleep(self._every)

    def turn(self) -> None:
        stalled = (
            self._progress.stalled(pictures(self._meetings), self._clock()) if self._notifier.watchdog else []
        )
        if stalled:
            if stalled != self._stalled:
                log.error("no pictures from %s: the watchdog is fed no more", names(stalled))
            self._notifier.tell(STATUS=f"no pictures from {names(stalled)}")
        else:
            fed = {"WATCHDOG": "1"} if self._notifier.watchdog else {}
            self._notifier.tell(STATUS=summary(self._meetings), **fed)
        self._stalled = stalled


def pictures(meetings: Iterable[Meeting]) -> dict[Source, int]:
    """How many pictures each source has given, of the meetings that are joined, but for absent cameras."""
    return {
        (session.name, stream): outgoing.stream.stats().frames_captured
        for session in (meeting.session for meeting in meetings if meeting.state == "joined")
        if isinstance(session, EncryptedSession | PlainSession)
        for stream, outgoing in session.streams.outgoing.items()
        if not outgoing.stream.absent
    }


def names(sources: Sequence[Source]) -> str:
    return ", ".join(stream for _, stream in sources)


def summary(meetings: Iterable[Meeting]) -> str:
    """What ``systemctl status`` shows."""
    return "; ".join(
        f"{meeting.settings.name}: {meeting.state}"
        + (f" ({meeting.why})" if meeting.state != "joined" and meeting.why else "")
        for meeting in meetings
    )
