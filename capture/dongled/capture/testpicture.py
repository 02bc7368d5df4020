"""The test picture: moving, free of noise, the same for everybody who knows its stamp."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from dongled.capture.stamp import Luma, luma_of, stamp, stamp_size

# The background pans by this many pixels at most, each way; a ball crosses it.
PAN = 64
Plane = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Planes:
    """A planar 4:2:0 picture as views of one buffer: ``y`` (h, w), ``u`` and ``v`` (h/2, w/2), uint8."""

    y: Plane
    u: Plane
    v: Plane
    buffer: Plane

    def frame(self) -> av.VideoFrame:
        """The same memory as a yuv420p frame."""
        return av.VideoFrame.from_numpy_buffer(self.buffer, format="yuv420p")


def render(sequence: int, captured_ms: int, width: int, height: int) -> Planes:
    """The picture number ``sequence``, stamped. ``width`` and ``height`` are even."""
    buffer = np.empty((height * 3 // 2, width), np.uint8)
    y = buffer[:height]
    u, v = buffer[height:].reshape(2, height // 2, width // 2)
    background = _background(width, height)
    # Even steps, so that the chroma planes move by whole pixels.
    left = 2 * round(PAN / 4 * (1 + math.sin(sequence / 40)))
    top = 2 * round(PAN / 4 * (1 + math.cos(sequence / 55)))
    y[:] = background[0][top : top + height, left : left + width]
    u[:] = background[1][top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
    v[:] = background[2][top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
    _ball(sequence, y, u, v)
    stamp(y, sequence, captured_ms)
    across, down = stamp_size(width)
    u[: down // 2, : across // 2] = v[: down // 2, : across // 2] = 128
    return Planes(y, u, v, buffer)


def psnr_db(received: av.VideoFrame | Luma, reference: av.VideoFrame | Luma) -> float:
    """Peak signal-to-noise ratio of the luma planes in dB; infinite where they are equal.

    Raises ValueError when the sizes differ.
    """
    a = received if isinstance(received, np.ndarray) else luma_of(received)
    b = reference if isinstance(reference, np.ndarray) else luma_of(reference)
    if a.shape != b.shape:
        raise ValueError(f"a picture of shape {a.shape} cannot be compared with one of {b.shape}")
    difference = np.subtract(a, b, dtype=np.float32).ravel()
    error = float(np.dot(difference, difference)) / difference.size
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@functools.lru_cache(maxsize=4)
def _background(width: int, height: int) -> tuple[Plane, Plane, Plane]:
    """Gradients, waves and hard edges, larger than the picture by PAN each way."""
    rows = np.arange(height + PAN, dtype=np.float32)[:, None]
    columns = np.arange(width + PAN, dtype=np.float32)[None, :]
    y = 120 + 40 * np.sin(columns / 37) * np.cos(rows / 29) + 30 * np.sin((columns + 2 * rows) / 150)
    checks = ((columns // 96).astype(int) + (rows // 96).astype(int)) % 4 == 0
    y = np.where(checks, y + 35, y)
    u = 128 + 50 * np.sin(columns[:, ::2] / 190 + rows[::2] / 310)
    v = 128 + 50 * np.cos(columns[:, ::2] / 230 - rows[::2] / 270)
    return _plane(y), _plane(u), _plane(v)


def _plane(values: npt.NDArray[np.floating]) -> Plane:
    plane: Plane = np.clip(values, 16, 235).astype(np.uint8)
    # Shared by everyone who renders.
    plane.flags.writeable = False
    return plane


def _ball(sequence: int, y: Plane, u: Plane, v: Plane) -> None:
    """A ball that bounces off the edges, as a triangle wave of the frame counter."""
    height, width = y.shape
    radius = height // 10 & ~1
    left = 2 * _bounce(3 * sequence, width // 2 - radius)
    top = 2 * _bounce(2 * sequence, height // 2 - radius)
    mask = _disc(radius)
    y[top : top + 2 * radius, left : left + 2 * radius][mask] = 210
    for plane, colour in ((u, 90), (v, 200)):
        area = plane[top // 2 : top // 2 + radius, left // 2 : left // 2 + radius]
        area[mask[::2, ::2]] = colour


def _bounce(position: int, length: int) -> int:
    return length - abs(position % (2 * length) - length)


@functools.lru_cache(maxsize=4)
def _disc(radius: int) -> npt.NDArray[np.bool_]:
    axis = np.arange(2 * radius) - radius + 0.5
    mask: npt.NDArray[np.bool_] = axis[:, None] ** 2 + axis[None, :] ** 2 <= radius**2
    return mask
