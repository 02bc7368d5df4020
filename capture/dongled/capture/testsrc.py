"""The test picture as a source: drawn when it is due, by absolute deadlines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dongled.capture.errors import CaptureError
from dongled.capture.newest import closed
from dongled.capture.stamp import stamp_size
from dongled.capture.testpicture import render
from dongled.media.api import Picture


class TestPicture:
    """Picture n is due n / fps seconds after ``start``; pictures that nobody read in time are skipped.

    Drawn in the reader's thread, since drawing costs less than handing over. ``clock`` is
    CLOCK_MONOTONIC in seconds.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    def __init__(
        self, width: int, height: int, fps: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        least = stamp_size(width)
        if width < least[0] or height < least[1] or width % 2 or height % 2:
            raise CaptureError(
                "size-unusable",
                f"the test picture cannot be {width}x{height}",
                f"choose an even size of at least {least[0]}x{least[1]}",
            )
        self.width, self.height, self.fps = width, height, fps
        self._clock = clock
        self._closed = threading.Event()
        self._begin: float | None = None
        self._next = 0

    def start(self) -> None:
        render(0, 0, self.width, self.height)  # the background is computed before the first deadline
        self._begin = self._clock()

    def read(self, timeout: float) -> Picture | None:
        """The picture that is due, or the next; None when it is not due within ``timeout`` seconds."""
        if self._begin is None:
            raise CaptureError("not-started", "the source was not started")
        now = self._clock()
        sequence = max(self._next, int((now - self._begin) * self.fps))
        wait = self._begin + sequence / self.fps - now
        if self._closed.wait(max(0.0, min(wait, timeout))):
            raise closed()
        if wait > timeout:
            return None
        self._next = sequence + 1
        captured_at = self._clock()
        planes = render(sequence, int(captured_at * 1000), self.width, self.height)
        return Picture(planes.frame(), sequence, captured_at)

    def close(self) -> None:
        self._closed.set()
