"""What a V4L2 camera offers, asked without taking it from whoever uses it.

https://www.kernel.org/doc/html/latest/userspace-api/media/v4l/vidioc-enum-fmt.html and
.../vidioc-enum-framesizes.html
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dongled.capture.camera import check_node
from dongled.capture.convert import FOURCCS
from dongled.capture.errors import CaptureError

# <linux/videodev2.h>: struct v4l2_capability, v4l2_fmtdesc and v4l2_frmsizeenum.
CAPABILITY = struct.Struct("=16s32s32sIII12x")
DESCRIPTION = struct.Struct("=III32sII12x")
FRAME_SIZE = struct.Struct("=IIIIIIIII8x")
QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES = 0x80685600, 0xC0405602, 0xC02C564A

# V4L2_CAP_VIDEO_CAPTURE and _MPLANE, and the buffers' types of the same names.
_BUFFERS = {0x1: 1, 0x1000: 9}
_DISCRETE = 1  # V4L2_FRMSIZE_TYPE_DISCRETE
# A driver that never says that there is no more must not keep us.
_MOST = 64

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Format:
    """A pixel format by its FOURCC. ``sizes`` in pixels; of a camera with any size between two, these two."""

    fourcc: str
    sizes: tuple[Size, ...]
    stepwise: bool = False

    @property
    def supported(self) -> bool:
        return self.fourcc in FOURCCS

    def has(self, width: int, height: int) -> bool:
        if self.stepwise and len(self.sizes) == 2:
            (least_width, least_height), (most_width, most_height) = self.sizes
            return least_width <= width <= most_width and least_height <= height <= most_height
        return (width, height) in self.sizes


def formats(device: Path) -> list[Format]:
    """Raises CaptureError as ``Camera.start``; ``camera-not-capture`` for a node that gives no pictures."""
    check_node(device)
    try:
        file = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = "another program may have it for itself"
        raise CaptureError("camera-unusable", f"{device}: {error.strerror}", hint) from None
    try:
        return list(_formats(device, file))
    finally:
        os.close(file)


def _formats(device: Path, file: int) -> Iterator[Format]:
    hint = "a camera has several nodes, and some give metadata: /dev/v4l/by-path/...-video-index0"
    try:
        answer = fcntl.ioctl(file, QUERYCAP, bytes(CAPABILITY.size))
    except OSError as error:
        raise CaptureError(
            "camera-not-capture", f"{device} is no V4L2 device: {error.strerror}", hint
        ) from None
    able = CAPABILITY.unpack(answer)[5]
    buffers = [kind for capability, kind in _BUFFERS.items() if able & capability]
    if not buffers:
        raise CaptureError("camera-not-capture", f"{device} gives no pictures", hint)
    for index in range(_MOST):
        described = _next(file, ENUM_FMT, DESCRIPTION.pack(index, buffers[0], 0, b"", 0, 0))
        if described is None:
            return
        yield _sized(file, DESCRIPTION.unpack(described)[4])


def _sized(file: int, pixel_format: int) -> Format:
    fourcc = pixel_format.to_bytes(4, "little").decode("latin-1")
    sizes: list[Size] = []
    for index in range(_MOST):
        answer = _next(file, ENUM_FRAMESIZES, FRAME_SIZE.pack(index, pixel_format, *[0] * 7))
        if answer is None:
            break
        _, _, kind, *numbers = FRAME_SIZE.unpack(answer)
        if kind != _DISCRETE:
            least_width, most_width, _, least_height, most_height, _ = numbers
            ends = ((least_width, least_height), (most_width, most_height))
            return Format(fourcc, ends, stepwise=True)
        sizes.append((numbers[0], numbers[1]))
    return Format(fourcc, tuple(sizes))


def _next(file: int, request: int, argument: bytes) -> bytes | None:
    """The next of an enumeration; None after the last, or where the driver enumerates nothing."""
    try:
        return fcntl.ioctl(file, request, argument)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return None
        raise CaptureError(
            "camera-gone", f"the camera went away: {error.strerror}", "plug it in again"
        ) from None
