"""A picture source whose every picture can be made again from its number, to compare with."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray

from dongled.media.api import Picture

COUNTER_BITS = 12
_CELL = 16


def luma(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A drifting gradient with a moving block, and the number as black and white cells at the top left."""
    y, x = np.mgrid[0:height, 0:width]
    picture: NDArray[np.uint8] = (60 + (x + y + number * 4) // 4 % 128).astype(np.uint8)
    left = number * 7 % (width - 64)
    picture[height // 2 : height // 2 + 48, left : left + 48] = 220
    for bit in range(COUNTER_BITS):
        picture[:_CELL, bit * _CELL : (bit + 1) * _CELL] = 235 if number >> bit & 1 else 16
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number that ``luma`` painted, read back."""
    cells = [picture[4:12, bit * _CELL + 4 : bit * _CELL + 12].mean() > 128 for bit in range(COUNTER_BITS)]
    return sum(1 << bit for bit, white in enumerate(cells) if white)


def make(number: int, width: int = 320, height: int = 192) -> av.VideoFrame:
    planes = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
    planes[:height] = luma(number, width, height)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def luma_of(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return frame.to_ndarray()[: frame.height].astype(np.uint8)


def psnr(frame: av.VideoFrame) -> float:
    """Of a decoded picture against the one of its own number, in dB."""
    seen = luma_of(frame).astype(float)
    wanted = luma(number_of(luma_of(frame)), frame.width, frame.height).astype(float)
    return float(10 * np.log10(255**2 / max(((seen - wanted) ** 2).mean(), 1e-9)))


class MovingSource:
    """Pictures 0, 1, 2... at ``fps``, made when they are read."""

    def __init__(self, width: int = 320, height: int = 192, fps: int = 30) -> None:
        self.width, self.height, self.fps = width, height, fps
        self.closed = threading.Event()
        self._number = 0
        self._due = 0.0

    def start(self) -> None:
        self._due = time.monotonic()

    def read(self, timeout: float) -> Picture | None:
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due += 1 / self.fps
        number = self._number
        self._number += 1
        return Picture(make(number, self.width, self.height), number, time.monotonic())

    def close(self) -> None:
        self.closed.set()


@dataclass
class Kept:
    """A sink that keeps what it gets."""

    pictures: list[Picture] = field(default_factory=list)
    closed: bool = False

    def write(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def close(self) -> None:
        self.closed = True
