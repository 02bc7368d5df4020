"""When a device may have come or gone: what udev tells, by netlink."""

from __future__ import annotations

import logging
import select
import socket
import time

log = logging.getLogger(__name__)

# <linux/netlink.h>. Group 1 carries the kernel's events, group 2 udev's, once it has named the node and set
# its permissions (udev(7), libudev's monitor); whichever reaches us is reason enough to look.
_NETLINK_KOBJECT_UEVENT = 15
_GROUPS = 0b11
_SIZE = 1 << 16
# Both write keys as KEY=VALUE between NULs.
_VIDEO = b"SUBSYSTEM=video4linux\0"


class Plugging:
    """Hears of video devices. What it says is a hint and no more: anybody on the machine could send it.

    Where there is no netlink it hears nothing, and whoever waits looks now and then.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_KOBJECT_UEVENT
            )
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            self.close()
            log.warning("no news of devices, so cameras are looked for now and then: %s", error.strerror)

    def wait(self, seconds: float) -> bool:
        """Whether something happened to a video device within so many seconds."""
        if self._socket is None:
            time.sleep(seconds)
            return False
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0] and self._heard(self._socket):
                return True
        return False

    @staticmethod
    def _heard(sock: socket.socket) -> bool:
        try:
            return _VIDEO in sock.recv(_SIZE)
        except OSError:  # ENOBUFS: more than was read; some of it may have been ours
            return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
