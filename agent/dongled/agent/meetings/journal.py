"""What happened in a meeting: counted by reason for ``status``, and logged once for the operator."""

from __future__ import annotations

import logging
from collections import Counter, deque

from dongled.agent.clock import boottime
from dongled.agent.logs.events import Event, about

EVENTS_KEPT = 50
# A hostile SFU can make refusals at line rate: each reason is logged at most this often.
LOG_INTERVAL = 1.0


class Journal:
    """Counts and a bounded list of the latest events of one meeting, over all its sessions."""

    def __init__(self, meeting: str) -> None:
        self._meeting = meeting
        self._log = logging.getLogger(f"dongled.meeting.{meeting}")
        self._last_logged: dict[str, float] = {}
        self.refused: Counter[str] = Counter()
        self.alarms: Counter[str] = Counter()
        self.alarmed_at: float | None = None
        self.events: deque[str] = deque(maxlen=EVENTS_KEPT)

    def event(self, kind: Event, text: str, **fields: str) -> None:
        """``fields`` are the journal's: peer, subject, reason and the like."""
        self.events.append(text)
        self._log.info("%s", text, extra=about(kind, meeting=self._meeting, **fields))

    def refusal(self, reason: str, detail: str, source: str, now: float) -> None:
        """``now`` in seconds of any steady clock; ``source`` is untrusted and shown escaped."""
        self.refused[reason] += 1
        if now - self._last_logged.get(reason, float("-inf")) >= LOG_INTERVAL:
            self._last_logged[reason] = now
            self.events.append(f"refused: {reason}")
            fields = about(Event.REFUSED, meeting=self._meeting, reason=reason, source=source)
            self._log.warning("refused (%s) from %.200r: %.200s", reason, source, detail, extra=fields)

    def alarm(self, reason: str, detail: str) -> None:
        self.alarms[reason] += 1
        self.alarmed_at = boottime()
        self.events.append(f"alarm: {reason}")
        fields = about(Event.ALARM, meeting=self._meeting, reason=reason)
        self._log.error("alarm (%s): %s", reason, detail, extra=fields)
