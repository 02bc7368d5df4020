"""The stamp survives a lossy codec, and nothing else passes for one."""

from __future__ import annotations

import math
import statistics

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.vp8 import through_vp8
from dongled.capture.stamp import COLUMNS, ROWS, Stamp, cell_size, luma_of, read_stamp, stamp, stamp_size
from dongled.capture.testpicture import psnr_db, render

U32 = st.integers(0, (1 << 32) - 1)
SIZES = [(128, 96), (320, 180), (638, 360), (640, 360), (1280, 720)]


@given(sequence=U32, captured_ms=U32, size=st.sampled_from(SIZES), bitrate=st.sampled_from([60_000, 500_000]))
@settings(max_examples=12, deadline=None)
def test_any_stamp_survives_vp8(sequence: int, captured_ms: int, size: tuple[int, int], bitrate: int) -> None:
    sent = [((sequence + i) % 2**32, (captured_ms + 33 * i) % 2**32) for i in range(4)]
    frames = (render(number, ms, *size).frame() for number, ms in sent)
    assert [read_stamp(frame) for frame in through_vp8(frames, bitrate)] == [Stamp(*pair) for pair in sent]


@pytest.mark.parametrize(
    ("size", "bitrate"), [((1280, 720), 2_000_000), ((320, 180), 150_000), ((128, 96), 50_000)]
)
def test_a_running_stream_is_read_and_is_close_to_its_source(size: tuple[int, int], bitrate: int) -> None:
    quality = []
    for number, frame in enumerate(
        through_vp8((render(i, 33 * i, *size).frame() for i in range(45)), bitrate)
    ):
        found = read_stamp(frame)
        assert found == Stamp(number, 33 * number)
        quality.append(psnr_db(frame, render(found.sequence, found.captured_ms, *size).y))
    assert len(quality) == 45
    assert statistics.median(quality) > 36


def test_the_picture_moves_so_that_a_frozen_or_shifted_one_shows() -> None:
    now = render(100, 0, 1280, 720)
    assert psnr_db(render(115, 0, 1280, 720).y, now.y) < 30
    assert all(not np.array_equal(render(n, 0, 320, 180).y, render(n + 1, 0, 320, 180).y) for n in range(200))


def test_rendering_again_gives_the_same_picture() -> None:
    first, second = render(7, 9, 640, 360), render(7, 9, 640, 360)
    assert np.array_equal(first.buffer, second.buffer)
    first.y[:] = 0  # what somebody does to one picture shows in no other
    assert np.array_equal(render(7, 9, 640, 360).buffer, second.buffer)
    assert psnr_db(second.y, second.frame()) == math.inf


@given(flips=st.sets(st.integers(0, ROWS * COLUMNS - 1), min_size=1, max_size=8))
@settings(max_examples=50)
def test_a_damaged_stamp_is_none(flips: set[int]) -> None:
    luma = np.zeros((96, 128), np.uint8)
    stamp(luma, 123456, 654321)
    size = cell_size(128)
    for cell in flips:
        area = luma[cell // COLUMNS * size :, cell % COLUMNS * size :][:size, :size]
        area[:] = 251 - area
    assert read_stamp(luma) is None


@pytest.mark.parametrize("value", [0, 16, 126, 128, 235, 255])
def test_a_flat_picture_holds_no_stamp(value: int) -> None:
    assert read_stamp(np.full((720, 1280), value, np.uint8)) is None


def test_noise_holds_no_stamp() -> None:
    random = np.random.default_rng(1)
    cells = random.integers(0, 2, (200, ROWS, COLUMNS)).astype(np.uint8) * 219 + 16
    assert not any(read_stamp(np.kron(grid, np.ones((8, 8), np.uint8))) for grid in cells)


def test_a_picture_too_small_for_a_stamp_holds_none() -> None:
    assert stamp_size(120) == (128, 48)
    assert read_stamp(np.zeros((48, 120), np.uint8)) is None
    assert read_stamp(np.zeros((40, 128), np.uint8)) is None


def test_luma_leaves_out_the_padding_of_a_frame() -> None:
    frame = av.VideoFrame(130, 96, "yuv420p")
    assert frame.planes[0].line_size > 130
    assert luma_of(frame).shape == (96, 130)


def test_age_counts_across_the_wrap_of_the_clock() -> None:
    assert Stamp(0, 2**32 - 10).age_ms(15) == 25
    assert Stamp(0, 100).age_ms(90) == -10


def test_pictures_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr_db(render(0, 0, 320, 180).y, render(0, 0, 640, 360).y)
