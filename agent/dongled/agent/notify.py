"""sd_notify(3) without libsystemd: one datagram to the socket that the service manager named."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager; silent where there is none, and when it does not listen."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract address (sd_notify(3), Environment).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "") if ours else ""
        # sd_watchdog_enabled(3)
        self.watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
        """Seconds within which the watchdog must be fed; 0: there is none."""

    def __bool__(self) -> bool:
        return bool(self._address)

    def tell(self, **assignments: str) -> None:
        """Send ``READY="1"`` and the like. A line break in a value would begin another assignment."""
        if not self._address:
            return
        lines = (f"{key}={' '.join(value.split())}" for key, value in assignments.items())
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        # A service manager that went away, or is flooded, must not take the meeting with it.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
            sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
