"""Something that a test keeps waiting."""

from __future__ import annotations

import threading


class Hold:
    """A command that a token has got and does not answer. ``arrived`` tells that it is there."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    def wait(self) -> None:
        self.arrived.set()
        self._released.wait()
