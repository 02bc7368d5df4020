"""The latest picture as a PNG file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from av.video.codeccontext import VideoCodecContext

from dongled.media.api import Picture
from dongled.media.errors import MediaError


class PngSink:
    """Replaces ``path`` by the newest picture, every ``every`` seconds (None: never) and at the end.

    A reader of the file never sees half a picture. Readable by its owner alone.
    """

    def __init__(
        self, path: Path, every: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._every = every
        self._clock = clock
        self._latest: Picture | None = None
        self._written_at = float("-inf")

    def write(self, picture: Picture) -> None:
        self._latest = picture
        if self._every is not None and self._clock() - self._written_at >= self._every:
            self._save()

    def close(self) -> None:
        if self._latest is not None:
            self._save()

    def _save(self) -> None:
        assert self._latest is not None
        data = encode_png(self._latest)
        self._latest = None
        self._written_at = self._clock()
        try:
            with tempfile.TemporaryDirectory(dir=self._path.parent, prefix=".snapshot-") as directory:
                file = Path(directory) / self._path.name
                file.touch(0o600)
                file.write_bytes(data)
                file.replace(self._path)
        except OSError as error:
            raise MediaError("output-failed", f"cannot write {self._path}: {error.strerror}") from error


def encode_png(picture: Picture) -> bytes:
    """A picture as PNG, 8-bit RGB."""
    frame = picture.frame.reformat(format="rgb24")
    context = VideoCodecContext.create("png", "w")
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = "rgb24"
    context.thread_count = 1
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
