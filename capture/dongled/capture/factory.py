"""Which source a configuration means. Sources are imported when asked for: OpenCV alone takes 0.2 s."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dongled.capture.errors import CaptureError
from dongled.media.api import PictureSource


def open_source(
    kind: str,
    *,
    width: int,
    height: int,
    fps: int,
    device: Path | None = None,
    path: Path | None = None,
    loop: bool = True,
) -> PictureSource:
    """A source, not started yet: ``kind`` is ``testsrc``, ``file`` (``path``) or ``camera`` (``device``).

    Its pictures are ``width`` x ``height`` pixels, at most ``fps`` a second. A camera may come late, go and
    come back. Raises CaptureError.
    """
    if kind == "testsrc":
        from dongled.capture.testsrc import TestPicture

        return TestPicture(width, height, fps)
    if kind == "file" and path is not None:
        from dongled.capture.file import VideoFile

        return VideoFile(path, width, height, fps, loop=loop)
    if kind == "camera" and device is not None:
        from dongled.capture.camera import Camera
        from dongled.capture.returning import Returning

        return Returning(partial(Camera, device, width, height, fps))
    raise CaptureError(
        "source-unknown",
        f"{kind!r} is no source, or lacks its path or device",
        "testsrc, file with a path, or camera with a device",
    )
