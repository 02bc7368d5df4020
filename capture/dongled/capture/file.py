"""A video file as a source: decoded by PyAV, paced by its timestamps, from the start again at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
from av.container import InputContainer

from dongled.capture.convert import Scaler
from dongled.capture.errors import CaptureError
from dongled.capture.newest import Reader
from dongled.media.api import Picture


class VideoFile:
    """Pictures of the first video stream, scaled to ``width`` x ``height``, at most ``fps`` a second."""

    def __init__(self, path: Path, width: int, height: int, fps: int, *, loop: bool = True) -> None:
        self.width, self.height, self.fps = width, height, fps
        self._path, self._loop = path, loop
        self._scale = Scaler(width, height)
        self._reader: Reader[Picture] = Reader(f"video file {path}", self._play)
        self._opened: InputContainer | None = None
        self._sequence = 0

    def start(self) -> None:
        """Open the file. Raises CaptureError ``file-unreadable`` or ``file-no-video``."""
        self._opened = self._open()
        self._reader.start()

    def read(self, timeout: float) -> Picture | None:
        """The newest picture not read yet.

        Raises CaptureError ``ended`` at the end of a file that is not looped, ``file-damaged``.
        """
        picture = self._reader.take(timeout)
        # Scaled here, so that a picture that nobody takes costs no scaling.
        return None if picture is None else replace(picture, frame=self._scale(picture.frame))

    def close(self) -> None:
        self._reader.close()

    def _open(self) -> InputContainer:
        try:
            container = av.open(str(self._path))
        except (av.FFmpegError, OSError) as error:
            raise CaptureError(
                "file-unreadable",
                f"{self._path}: {error.strerror}",
                "is it a video file that this user may read?",
            ) from error
        if not container.streams.video:
            container.close()
            raise CaptureError("file-no-video", f"{self._path} holds no video", "choose another file")
        return container

    def _play(self, put: Callable[[Picture], None], stopping: threading.Event) -> None:
        container, begin = self._opened or self._open(), time.monotonic()
        self._opened = None
        while True:
            with container:
                end = self._pass(container, begin, put, stopping)
            if end is None:
                raise CaptureError("file-no-video", f"{self._path} holds no picture", "choose another file")
            if stopping.wait(max(0.0, end - time.monotonic())) or not self._loop:
                return
            container, begin = self._open(), end

    def _pass(
        self,
        container: InputContainer,
        begin: float,
        put: Callable[[Picture], None],
        stopping: threading.Event,
    ) -> float | None:
        """Play the file once from CLOCK_MONOTONIC ``begin``; when it ends, None without any picture."""
        first: float | None = None
        at = -1 / self.fps
        wanted = 0.0
        try:
            for frame in container.decode(video=0):
                now = frame.time if frame.time is not None else at + 1 / self.fps
                first = now if first is None else first
                at = now - first
                if at < wanted - 0.5e-3:
                    continue  # the file has more pictures a second than were asked for
                wanted = max(wanted + 1 / self.fps, at)
                if stopping.wait(max(0.0, begin + at - time.monotonic())):
                    break
                put(Picture(frame, self._sequence, time.monotonic()))
                self._sequence += 1
        except av.FFmpegError as error:
            raise CaptureError(
                "file-damaged", f"{self._path}: {error.strerror}", "choose another file"
            ) from error
        return None if first is None else begin + at + 1 / self.fps
