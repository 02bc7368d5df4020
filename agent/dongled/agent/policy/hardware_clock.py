"""The machine's hardware clock, as the kernel shows it: one with a battery knows the time after a power cut.

https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-rtc
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import TrustedClock

log = logging.getLogger(__name__)

CLOCKS = Path("/sys/class/rtc")


def hardware_time(clocks: Path = CLOCKS) -> datetime | None:
    """Of the clock that the system's was set from at the start, else of the first; None: it tells none."""
    found = sorted(clocks.glob("rtc*"), key=lambda clock: (_read(clock / "hctosys") != "1", clock.name))
    try:
        return datetime.fromtimestamp(int(_read(found[0] / "since_epoch")), UTC) if found else None
    except (ValueError, OverflowError, OSError):
        return None


def confirm_by_hardware(clock: TrustedClock, clocks: Path = CLOCKS) -> None:
    """Have the hardware clock vouch for ``clock``; where it does not, the reason is logged."""
    time = hardware_time(clocks)
    if time is None:
        log.warning("no hardware clock tells the time (%s)", clocks)
        return
    try:
        clock.confirm(time)
    except PolicyRefused as refused:
        log.warning("the hardware clock: %s [%s]", refused, refused.reason)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
