"""Looks at the daemon now and then, and knows since when something has been wrong with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dongled.agent.clock import boottime
from dongled.agent.health.disks import look_at
from dongled.agent.health.rules import RULES, Condition
from dongled.agent.logs.events import Event, about
from dongled.agent.status import DaemonStatus, DiskStatus, WarningStatus
from dongled.config.api import SettingsWarning

log = logging.getLogger("dongled.health")

LOOK_EVERY = 2.0  # seconds
DISKS_EVERY = 15  # looks


class HealthMonitor:
    """``facts`` is the status as it is; ``settings`` what the settings themselves warn of.

    A warning is logged when it begins and when it ends. ``directories`` are those that are written to.
    """

    def __init__(
        self,
        facts: Callable[[], DaemonStatus],
        settings: Callable[[], Sequence[SettingsWarning]],
        directories: Callable[[], Iterable[Path]] = tuple,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._facts = facts
        self._settings = settings
        self._directories = directories
        self._clock = clock
        self._began = clock()
        self._before: DaemonStatus | None = None
        self._since: dict[tuple[str, str], float] = {}
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._told: set[tuple[str, str]] = set()
        self.disks: list[DiskStatus] = []

    async def run(self) -> None:
        """Until cancelled."""
        looks = 0
        while True:
            if looks % DISKS_EVERY == 0:
                # A disk that hangs must not take the meeting with it.
                self.disks = await asyncio.to_thread(look_at, tuple(self._directories()))
            looks += 1
            self.look()
            await asyncio.sleep(LOOK_EVERY)

    def look(self) -> None:
        """Take a status and see what begins and what ends with it."""
        now, at = self._facts(), self._clock()
        found = [condition for rule in RULES for condition in rule(now, self._before)]
        self._before = now
        self._conditions = {(each.kind.id, each.about): each for each in found}
        self._since = {key: self._since.get(key, at) for key in self._conditions}
        self._tell(at)

    def warnings(self) -> list[WarningStatus]:
        """Those of the settings first, then what is so now."""
        at = self._clock()
        age = at - self._began
        chosen = [WarningStatus(each.id, each.text, each.hint, seconds=age) for each in self._settings()]
        return chosen + [
            WarningStatus(
                each.kind.id, each.text, each.hint or each.kind.hint, each.about, at - self._since[key]
            )
            for key, each in self._conditions.items()
            if key in self._told
        ]

    def _tell(self, at: float) -> None:
        for key in self._told - set(self._conditions):
            fields = about(Event.WARNING_ENDED, warning=key[0], about=key[1])
            log.info("no longer: %s", _name(*key), extra=fields)
        self._told &= set(self._conditions)
        for key, condition in self._conditions.items():
            if key not in self._told and at - self._since[key] >= condition.kind.patience:
                self._told.add(key)
                hint, fields = (
                    condition.hint or condition.kind.hint,
                    about(Event.WARNING_BEGAN, warning=key[0], about=key[1]),
                )
                log.warning("%s: %s; %s", _name(*key), condition.text, hint, extra=fields)


def _name(kind: str, about: str) -> str:
    return f"{kind} ({about})" if about else kind
