"""The time that certificates are judged by: untrusted until somebody vouches for it.

A device without a battery wakes up in 1970, when long-expired certificates are valid and revocations are
still to come. So no time is believed by default, and none below a floor is believed at all.

Two floors, since a clock can be wrong in both directions. What has *surely* passed, ``floor``, is worth
keeping over a restart: when this version was built, what the certificate platform has signed, and the seconds
that went by here since. What the wall clock *said* is no more certain than the clock: it holds until the next
start, or else a clock that was once a year ahead would close a terminal for a year.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused

# A time that had surely passed when this version was made.
BUILD_TIME = datetime(2026, 10, 1, tzinfo=UTC)

# How far a clock that was trusted may go back: what a time daemon corrects, and no more.
# A platform's clock may be as far ahead of ours.
MAX_STEP_BACK = timedelta(minutes=5)
# How far it may be from what vouched for it.
MAX_DIFFERENCE = timedelta(minutes=5)


class TimeSource(StrEnum):
    """Who vouches for the wall clock. ``system`` believes it as it is: an explicit setting, and a risk.

    ``rtc``: the hardware clock, as it was when the daemon started; ``operator``: somebody who read another
    clock; ``nts``: the time daemon, while it is synchronised to servers that NTS authenticates. What they say
    (``TrustedClock.confirm``) is carried on by a clock that never jumps: a wall clock that somebody sets
    meanwhile is believed no longer.
    """

    UNTRUSTED = "untrusted"
    SYSTEM = "system"
    RTC = "rtc"
    OPERATOR = "operator"
    NTS = "nts"


# What to do where nobody vouches yet.
_UNTOLD = {
    TimeSource.UNTRUSTED: 'set trust.time-source: "rtc", "nts", "operator", or "system" if it is right',
    TimeSource.RTC: 'see that the hardware clock is there and right, then restart; or set "operator"',
    TimeSource.OPERATOR: "look at another clock, and tell this terminal: dongled confirm-time",
    TimeSource.NTS: "wait until the time daemon was asked",
}


def told_time(text: str) -> datetime:
    """A time as somebody says it: ISO 8601, with its zone. Raises AgentError ``time-format``."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError("no zone")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise AgentError(
            "time-format", f"{text[:40]!r} is no time.", "Write it with its zone: 2027-03-01T12:34Z."
        ) from None


def system_wall_clock() -> datetime:
    return datetime.now(UTC)


class TrustedClock:
    """Tells the time, or refuses to.

    ``wall`` returns an aware datetime, ``steady`` seconds of a clock that never jumps; ``floor`` is a time
    known to have passed, which alone never makes a clock trusted. Each time told is a floor until the end of
    the process, so that a clock set back brings no expired certificate back.
    """

    def __init__(
        self,
        source: TimeSource | str = TimeSource.UNTRUSTED,
        *,
        floor: datetime = BUILD_TIME,
        wall: Callable[[], datetime] = system_wall_clock,
        steady: Callable[[], float] = boottime,
    ) -> None:
        self._source = TimeSource(source)
        self._wall = wall
        self._steady = steady
        self._passed = max(floor, BUILD_TIME)
        self._passed_at = steady()
        self._told = BUILD_TIME
        self._confirmed: tuple[datetime, float] | None = None
        self._until = math.inf
        self._doubt: PolicyRefused | None = None

    @property
    def source(self) -> TimeSource:
        return self._source

    @property
    def floor(self) -> datetime:
        """A time that has surely passed, fit to be kept over a restart. UTC."""
        return self._passed + timedelta(seconds=self._steady() - self._passed_at)

    def vouch(self, passed: datetime) -> None:
        """Raise the floor to what the platform signed: a verified OCSP producedAt or CRL thisUpdate."""
        if passed > self.floor:
            self._passed, self._passed_at = passed, self._steady()

    def confirm(self, time: datetime, *, lasts: float = math.inf) -> None:
        """The source says that it is ``time`` (aware) now; believed if the wall clock says so too.

        It counts for ``lasts`` seconds. Raises PolicyRefused ``time-differs``, and then all is as it was;
        ``time-below-floor``.
        """
        self._require_near(time.astimezone(UTC))
        at = self._steady()
        self._confirmed, self._until, self._doubt = (time.astimezone(UTC), at), at + lasts, None
        self._judged()

    def doubt(self, why: PolicyRefused, *, withdrawn: bool = False) -> None:
        """Why the source does not vouch now: what ``now`` raises once the last word counts no longer.

        ``withdrawn``: it does not from now on.
        """
        self._doubt = why
        if withdrawn:
            self._confirmed = None

    def now(self) -> datetime:
        """The trusted time, UTC. Raises PolicyRefused, its reason ``time-...``."""
        now = self._judged()
        self._told = max(self._told, now - MAX_STEP_BACK)
        return now

    def refusal(self) -> PolicyRefused | None:
        """What ``now`` would raise. Looking tells no time, so it raises no floor."""
        try:
            self._judged()
        except PolicyRefused as refused:
            return refused
        return None

    def _judged(self) -> datetime:
        if self._source is not TimeSource.SYSTEM:
            if self._confirmed is not None and self._steady() >= self._until:
                self._confirmed = None
            if self._source is TimeSource.UNTRUSTED or self._confirmed is None:
                if self._doubt is not None:
                    raise PolicyRefused(self._doubt.reason, str(self._doubt), self._doubt.hint)
                raise PolicyRefused(
                    "time-untrusted",
                    "nobody vouches for this device's clock, so no certificate can be judged",
                    _UNTOLD[self._source],
                )
            time, at = self._confirmed
            self._require_near(time + timedelta(seconds=self._steady() - at))
        now = self._wall().astimezone(UTC)
        # The platform's clock may be a little ahead, and ours be corrected.
        floor = max(self._told, self.floor - MAX_STEP_BACK)
        if now < floor:
            raise PolicyRefused(
                "time-below-floor",
                f"the clock says {now:%Y-%m-%d %H:%M}, but {floor:%Y-%m-%d %H:%M} has passed already",
                "set the clock, then restart",
            )
        return now

    def _require_near(self, time: datetime) -> None:
        now = self._wall().astimezone(UTC)
        if abs(now - time) > MAX_DIFFERENCE:
            raise PolicyRefused(
                "time-differs",
                f"the clock says {now:%Y-%m-%d %H:%M}, what vouches for it {time:%Y-%m-%d %H:%M} UTC",
                "set the clock right; if it is, have the time confirmed again, or restart",
            )
