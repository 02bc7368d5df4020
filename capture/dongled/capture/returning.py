"""A source that may be absent: waited for, and opened anew each time that it comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from dongled.capture.errors import CaptureError
from dongled.capture.newest import closed
from dongled.capture.plugging import Plugging
from dongled.media.api import Picture, PictureSource

log = logging.getLogger(__name__)

# Seconds from one try to the next when nothing is heard of the device, and at least when something is.
LOOK_EVERY = 2.0
LOOK_MOST = 10.0
LOOK_LEAST = 0.3
# Seconds without a picture and without an error after which a source counts as lost: its driver hangs.
STALLED = 10.0


class Returning:
    """Pictures of whatever ``make`` makes, for as long as it gives some; None meanwhile, never an error.

    ``why`` says why there are none, and is empty while there are. ``clock`` is CLOCK_MONOTONIC in seconds.
    """

    def __init__(
        self,
        make: Callable[[], PictureSource],
        *,
        plugging: Callable[[], Plugging] = Plugging,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._plugging = plugging
        self._clock = clock
        self._next = make()
        self.width, self.height, self.fps = self._next.width, self._next.height, self._next.fps
        self._source: PictureSource | None = None
        self._waiting: Plugging | None = None
        self._sequence = 0
        self._seen = self._tried = 0.0
        self._pause = LOOK_EVERY
        self._closed = False
        self.why = ""

    def start(self) -> None:
        """Open it, or begin to wait for it."""
        self._try()

    def read(self, timeout: float) -> Picture | None:
        """Raises CaptureError ``closed`` and no other."""
        if self._closed:
            raise closed()
        if self._source is None:
            self._wait(timeout)
            return None
        try:
            picture = self._source.read(timeout)
            if picture is None and self._clock() - self._seen > STALLED:
                raise CaptureError("camera-stalled", f"no picture for {STALLED:.0f} s", "replug it")
        except CaptureError as error:
            self._lost(error)
            return None
        if picture is None:
            return None
        self._seen, self._pause = self._clock(), LOOK_EVERY
        self._sequence += 1
        return replace(picture, sequence=self._sequence - 1)

    def close(self) -> None:
        self._closed = True
        if self._source is not None:
            self._source.close()
        self._heed()

    def _wait(self, timeout: float) -> None:
        if self._waiting is None:
            self._waiting = self._plugging()
        left = self._tried + self._pause - self._clock()
        if left > 0 and self._waiting.wait(min(timeout, left)) and self._pause > LOOK_LEAST:
            # Several events tell of one device, and only after the last of them can it be opened.
            self._tried, self._pause = self._clock(), LOOK_LEAST
        elif self._clock() >= self._tried + self._pause:
            self._try()

    def _try(self) -> None:
        self._tried = self._clock()
        source, self._next = self._next, self._make()
        try:
            source.start()
        except CaptureError as error:
            self._lost(error)
            return
        if self.why:
            log.info("the camera is back")
        self._source, self.why = source, ""
        self._seen = self._clock()
        self._heed()

    def _lost(self, error: CaptureError) -> None:
        why = f"{error} [{error.reason}]"
        if why != self.why:
            log.warning("no pictures: %s; %s", why, error.hint)
        self.why = why
        if self._source is not None:
            self._source.close()
            self._source, self._tried = None, self._clock()
        self._pause = min(LOOK_MOST, max(LOOK_EVERY, 1.5 * self._pause))

    def _heed(self) -> None:
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
