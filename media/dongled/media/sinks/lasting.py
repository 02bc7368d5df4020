"""Sinks of a daemon that nobody is near: what cannot be written now is tried again."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from dongled.media.api import EncodedSink, Picture, PictureSink
from dongled.media.errors import MediaError

log = logging.getLogger(__name__)

AGAIN = 30.0
"""Seconds from a failure, such as a full disk, to the next try."""


def free_name(path: Path) -> Path:
    """``path``, or the next free number beside it: no recording is overwritten."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate


class LastingRecording:
    """Records into what ``make`` opens, and after a failure into what it opens next, at a key frame."""

    def __init__(self, make: Callable[[], EncodedSink], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._sink: EncodedSink | None = None
        self._next = float("-inf")

    def write(self, data: bytes, timestamp: float, keyframe: bool) -> bool:
        try:
            if self._sink is None:
                if self._clock() < self._next:
                    return False
                if not keyframe:
                    return True
                self._sink = self._make()
            return self._sink.write(data, timestamp, keyframe)
        except (MediaError, OSError) as error:
            log.warning("no recording for %.0f s: %s", AGAIN, error)
            self._next = self._clock() + AGAIN
            self.close()
            return False

    def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            # What was still buffered finds no room either.
            with contextlib.suppress(MediaError, OSError):
                sink.close()


class LastingPictures:
    """Writes to a sink that may fail and work again."""

    def __init__(self, sink: PictureSink, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._next = float("-inf")

    def write(self, picture: Picture) -> None:
        if self._clock() < self._next:
            return
        try:
            self._sink.write(picture)
        except (MediaError, OSError) as error:
            log.warning("no pictures for %.0f s: %s", AGAIN, error)
            self._next = self._clock() + AGAIN

    def close(self) -> None:
        with contextlib.suppress(MediaError, OSError):
            self._sink.close()
