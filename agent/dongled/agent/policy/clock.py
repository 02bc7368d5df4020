"""The time that certificates are judged by: untrusted until somebody vouches for it.

A device without a battery wakes up in 1970, when long-expired certificates are valid and revocations are
still to come. So no time is believed by default, and none below a floor is believed at all.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from dongled.agent.policy.api import PolicyRefused

# A time that had surely passed when this version was made.
BUILD_TIME = datetime(2026, 10, 1, tzinfo=UTC)

# How far a clock that was trusted may go back: what a time daemon corrects, and no more.
MAX_STEP_BACK = timedelta(minutes=5)


class TimeSource(StrEnum):
    """Who vouches for the wall clock. ``system`` believes it as it is: an explicit setting, and a risk."""

    UNTRUSTED = "untrusted"
    SYSTEM = "system"


def system_wall_clock() -> datetime:
    return datetime.now(UTC)


class TrustedClock:
    """Tells the time, or refuses to.

    ``wall`` returns an aware datetime; ``floor`` is a time known to have passed, which alone never makes
    a clock trusted. Each time told raises it, so that a clock set back brings no expired certificate back.
    """

    def __init__(
        self,
        source: TimeSource | str = TimeSource.UNTRUSTED,
        *,
        floor: datetime = BUILD_TIME,
        wall: Callable[[], datetime] = system_wall_clock,
    ) -> None:
        self._source = TimeSource(source)
        self._floor = max(floor, BUILD_TIME)
        self._wall = wall

    @property
    def source(self) -> TimeSource:
        return self._source

    @property
    def floor(self) -> datetime:
        return self._floor

    def now(self) -> datetime:
        """The trusted time, UTC. Raises PolicyRefused ``time-untrusted`` or ``time-below-floor``."""
        if self._source is TimeSource.UNTRUSTED:
            raise PolicyRefused(
                "time-untrusted",
                "nobody vouches for this device's clock, so no certificate can be judged",
                'set the time source to "system" if this clock is known to be right',
            )
        now = self._wall().astimezone(UTC)
        if now < self._floor:
            raise PolicyRefused(
                "time-below-floor",
                f"the clock says {now:%Y-%m-%d %H:%M}, but {self._floor:%Y-%m-%d %H:%M} has passed already",
                "set the clock, then restart",
            )
        self._floor = max(self._floor, now - MAX_STEP_BACK)
        return now
