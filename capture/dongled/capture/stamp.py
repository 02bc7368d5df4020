"""A stamp in the picture itself: frame counter and capture time, readable after a lossy codec.

Layout: a grid of 16 columns and 6 rows of square cells in the top left corner, row by row, one bit a
cell (black 16, white 235: ITU-R BT.601), most significant bit first: u32 sequence, u32 capture time in
milliseconds of CLOCK_MONOTONIC, u32 CRC-32 of those eight bytes. A cell is 16 pixels wide, 8 in pictures
less than 640 pixels wide: multiples of VP8's 8-pixel transform pairs, so no block straddles two cells.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

COLUMNS, ROWS = 16, 6
BLACK, WHITE = 16, 235

Luma = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Stamp:
    """``sequence`` counts frames, ``captured_ms`` is CLOCK_MONOTONIC in ms; both modulo 2**32."""

    sequence: int
    captured_ms: int

    def age_ms(self, now_ms: int) -> int:
        """Milliseconds from capture to ``now_ms``, on the same clock, across its wrap; may be negative."""
        return (now_ms - self.captured_ms + (1 << 31)) % (1 << 32) - (1 << 31)


def cell_size(width: int) -> int:
    return 16 if width >= 640 else 8


def stamp_size(width: int) -> tuple[int, int]:
    """Width and height in pixels of the stamp in a picture of this width."""
    return COLUMNS * cell_size(width), ROWS * cell_size(width)


def stamp(luma: Luma, sequence: int, captured_ms: int) -> None:
    """Draw the stamp into a luma plane, shape (height, width), in place. Numbers are taken modulo 2**32."""
    width, height = stamp_size(luma.shape[1])
    body = struct.pack(">II", sequence % (1 << 32), captured_ms % (1 << 32))
    bits = np.unpackbits(np.frombuffer(body + struct.pack(">I", zlib.crc32(body)), np.uint8))
    cells = np.where(bits, np.uint8(WHITE), np.uint8(BLACK)).reshape(ROWS, 1, COLUMNS, 1)
    size = cell_size(luma.shape[1])
    shape = (ROWS, size, COLUMNS, size)
    luma[:height, :width] = np.broadcast_to(cells, shape).reshape(height, width)


def read_stamp(picture: av.VideoFrame | Luma) -> Stamp | None:
    """The stamp in a picture (planar YUV, or its luma plane of shape (height, width)); None without one.

    The picture must have the size that it was stamped at.
    """
    luma = picture if isinstance(picture, np.ndarray) else luma_of(picture)
    size = cell_size(luma.shape[1])
    width, height = stamp_size(luma.shape[1])
    if luma.shape[0] < height or luma.shape[1] < width:
        return None
    cells = luma[:height, :width].reshape(ROWS, size, COLUMNS, size)
    # The middle of each cell: its edges ring and blur.
    edge = size // 4
    means = cells[:, edge:-edge, :, edge:-edge].mean(axis=(1, 3)).ravel()
    raw = np.packbits(means > (BLACK + WHITE) / 2).tobytes()
    sequence, captured_ms, check = struct.unpack(">III", raw)
    return Stamp(sequence, captured_ms) if check == zlib.crc32(raw[:8]) else None


def luma_of(frame: av.VideoFrame) -> Luma:
    """The luma plane of a planar YUV frame as a view, shape (height, width); keeps the frame alive."""
    plane = frame.planes[0]
    rows: Luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]
