"""Live Matroska to a pipe: ``dongled view --output - | mpv -``."""

from __future__ import annotations

import os
import queue
import select
import threading

from dongled.media.errors import MediaError
from dongled.media.sinks.matroska import MatroskaWriter

QUEUE = 90
"""Frames that wait for the reader at most: three seconds."""

_PATIENCE_MS = 200


def refuse_terminal(descriptor: int) -> None:
    """Raises MediaError, ``output-is-terminal``."""
    if os.isatty(descriptor):
        raise MediaError(
            "output-is-terminal",
            "video is not written to a terminal",
            "pipe it into a player: dongled view --output - | mpv -",
        )


class LiveSink:
    """Feeds a file descriptor from a thread of its own, so that a reader that pauses holds up nobody else.

    What a paused reader missed is dropped; it goes on at a key frame. The descriptor is not closed.
    """

    def __init__(self, descriptor: int) -> None:
        """Raises MediaError, ``output-is-terminal``."""
        refuse_terminal(descriptor)
        self._queue: queue.Queue[tuple[bytes, float, bool] | None] = queue.Queue(QUEUE)
        self._awaits_keyframe = False
        self._pipe = _Pipe(descriptor)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-output", daemon=True)
        self._thread.start()

    def write(self, data: bytes, timestamp: float, keyframe: bool) -> bool:
        """Never blocks. Raises MediaError, ``output-closed``, once the reader has gone."""
        if self._ended.is_set():
            raise MediaError("output-closed", "the reader of the video has gone")
        if self._queue.full():
            self._awaits_keyframe = True
            return False
        if self._awaits_keyframe and not keyframe:
            return True
        self._awaits_keyframe = False
        self._queue.put_nowait((data, timestamp, keyframe))
        return False

    def close(self) -> None:
        """Write what waits, unless the reader does not read, and end the thread."""
        self._pipe.hurry.set()
        if not self._queue.full():
            self._queue.put_nowait(None)
        self._thread.join()

    def _run(self) -> None:
        writer = MatroskaWriter(self._pipe, live=True)
        try:
            while (item := self._next()) is not None:
                writer.write(*item)
        except (OSError, MediaError):
            self._ended.set()
        writer.close()

    def _next(self) -> tuple[bytes, float, bool] | None:
        if self._pipe.hurry.is_set() and self._queue.empty():
            return None
        return self._queue.get()


class _Pipe:
    """Writes without ever being stuck in a write: a full pipe is asked again every 200 ms.

    A pipe that polls as writable takes PIPE_BUF bytes without blocking (POSIX, write()).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.hurry = threading.Event()

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            ready = self._poll.poll(_PATIENCE_MS)
            if ready:
                view = view[os.write(self._descriptor, view[: select.PIPE_BUF]) :]
            elif self.hurry.is_set():
                raise BrokenPipeError("the reader does not read")
        return len(data)
