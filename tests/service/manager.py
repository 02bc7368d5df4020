"""A service manager, as far as sd_notify(3) sees one: a datagram socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Manager:
    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def environment(self, watchdog: float | None = None) -> dict[str, str]:
        told = {} if watchdog is None else {"WATCHDOG_USEC": str(int(watchdog * 1e6))}
        return {"NOTIFY_SOCKET": self.address} | told

    def hear(self, seconds: float = 20.0) -> dict[str, str]:
        """The next datagram's assignments. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def until(self, key: str, seconds: float = 20.0) -> dict[str, str]:
        """The next datagram with this assignment in it. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            told = self.hear(max(0.001, deadline - time.monotonic()))
            if key in told:
                return told

    def forget(self) -> None:
        """Drop what was told so far."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager(folder: Path) -> Iterator[Manager]:
    made = Manager(str(folder / "notify"))
    try:
        yield made
    finally:
        made.close()
