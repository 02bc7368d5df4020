"""A V4L2 camera by OpenCV, which hands over raw buffers: its own conversion to BGR costs ten times ours."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dongled.capture.convert import FOURCCS, Raw, Scaler, Unpacker
from dongled.capture.errors import CaptureError
from dongled.capture.newest import Reader
from dongled.media.api import Picture

BY_PATH = Path("/dev/v4l/by-path")
SELECT_TIMEOUT_SECONDS = 3
# Pictures of more pixels a second than this do not fit through USB 2 uncompressed.
UNCOMPRESSED_LIMIT = 640 * 480 * 30

# OpenCV's names of properties (https://docs.opencv.org/4.x/d4/d15/group__videoio__flags__base.html), given
# here so that the tests' camera needs no OpenCV.
FRAME_WIDTH, FRAME_HEIGHT, FPS, FOURCC, CONVERT_RGB = 3, 4, 5, 6, 16

log = logging.getLogger(__name__)


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...

    def set(self, prop: int, value: float) -> bool: ...

    def get(self, prop: int) -> float: ...

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Raw]: ...

    def release(self) -> None: ...


class Camera:
    """Pictures of a camera, scaled to ``width`` x ``height`` where the camera has no such size.

    ``device`` is best a name in /dev/v4l/by-path, which survives replugging.
    """

    def __init__(
        self,
        device: Path,
        width: int,
        height: int,
        fps: int,
        opener: Callable[[Path], Capture] | None = None,
    ) -> None:
        self.width, self.height, self.fps = width, height, fps
        self._device = device
        self._opener = opener
        self._scale = Scaler(width, height)
        self._reader: Reader[tuple[Raw, int, float]] = Reader(f"camera {device}", self._grab)
        self._capture: Capture | None = None
        self._unpack: Unpacker | None = None
        self.damaged = 0

    def start(self) -> None:
        """Open the camera.

        Raises CaptureError ``camera-absent``, ``camera-not-a-device``, ``camera-denied``,
        ``camera-unusable`` or ``camera-format``.
        """
        if self._opener is None:
            check_node(self._device)
        capture = (self._opener or _open)(self._device)
        try:
            if not capture.isOpened():
                hint = "is another program using it, and is it a capture device? `v4l2-ctl --all -d` tells"
                raise CaptureError("camera-unusable", f"{self._device} cannot be opened", hint)
            self._unpack = self._negotiate(capture)
        except BaseException:
            capture.release()
            raise
        self._capture = capture
        self._reader.start()

    def read(self, timeout: float) -> Picture | None:
        """The newest picture not read yet. Raises CaptureError ``camera-gone`` or ``camera-stalled``."""
        deadline = time.monotonic() + timeout
        while (taken := self._reader.take(max(0.0, deadline - time.monotonic()))) is not None:
            raw, sequence, captured_at = taken
            assert self._unpack is not None  # only the thread that start() started gives anything
            frame = self._unpack(raw)
            if frame is not None:
                return Picture(self._scale(frame), sequence, captured_at)
            self.damaged += 1
        return None

    def close(self) -> None:
        self._reader.close()

    def _negotiate(self, capture: Capture) -> Unpacker:
        """Ask for format, size and rate, and take what the driver made of it."""
        fast = self.width * self.height * self.fps > UNCOMPRESSED_LIMIT
        for wanted in ("MJPG", "YUYV") if fast else ("YUYV", "MJPG"):
            capture.set(FOURCC, int.from_bytes(wanted.encode(), "little"))
            if _fourcc(capture) == wanted:
                break
        capture.set(FRAME_WIDTH, self.width)
        capture.set(FRAME_HEIGHT, self.height)
        capture.set(FPS, self.fps)
        capture.set(CONVERT_RGB, 0)
        fourcc = _fourcc(capture)
        width, height = int(capture.get(FRAME_WIDTH)), int(capture.get(FRAME_HEIGHT))
        if fourcc not in FOURCCS or width <= 0 or height <= 0 or width % 2 or height % 2:
            raise CaptureError(
                "camera-format",
                f"{self._device} gives {fourcc!r} at {width}x{height}, which is not supported",
                f"supported are {', '.join(FOURCCS)}; `v4l2-ctl --list-formats-ext` shows what it has",
            )
        log.info("%s: %s %dx%d, %g/s", self._device, fourcc, width, height, capture.get(FPS))
        if (width, height) != (self.width, self.height):
            log.warning(
                "%s has no %dx%d: scaled from %dx%d", self._device, self.width, self.height, width, height
            )
        return Unpacker(fourcc, width, height)

    def _grab(self, put: Callable[[tuple[Raw, int, float]], None], stopping: threading.Event) -> None:
        capture, sequence = self._capture, 0
        assert capture is not None  # start() sets it before the thread
        try:
            while not stopping.is_set():
                got = capture.grab()
                captured_at = time.monotonic()
                if got:
                    got, raw = capture.retrieve()
                if not got:
                    raise self._lost()
                put((raw, sequence, captured_at))
                sequence += 1
        finally:
            capture.release()

    def _lost(self) -> CaptureError:
        # OpenCV keeps the errno (ENODEV) to itself; a pulled camera's node is gone.
        if not self._device.exists():
            return CaptureError("camera-gone", f"{self._device} was unplugged", "plug it in again")
        message = f"{self._device} gave no picture for {SELECT_TIMEOUT_SECONDS} s, or an error"
        return CaptureError("camera-stalled", message, "replug it; the kernel's log may say more (`dmesg`)")


def _fourcc(capture: Capture) -> str:
    return (int(capture.get(FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1")


def check_node(device: Path) -> None:
    try:
        mode = device.stat().st_mode
    except OSError as error:
        present = sorted(str(BY_PATH / name) for name in os.listdir(BY_PATH)) if BY_PATH.is_dir() else []
        hint = f"there are: {', '.join(present)}" if present else "no camera is plugged in"
        raise CaptureError("camera-absent", f"{device}: {error.strerror}", hint) from None
    if not stat.S_ISCHR(mode):
        raise CaptureError("camera-not-a-device", f"{device} is not a character device", f"look in {BY_PATH}")
    if not os.access(device, os.R_OK | os.W_OK):
        hint = "add the user that dongled runs as to the group `video`"
        raise CaptureError("camera-denied", f"{device}: permission denied", hint)


def _open(device: Path) -> Capture:
    # Read once, when the library is loaded.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(SELECT_TIMEOUT_SECONDS))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    import cv2

    return cv2.VideoCapture(str(device), cv2.CAP_V4L2)
