"""The test picture comes when it is due, and drifts for no reader."""

from __future__ import annotations

import threading
import time

import pytest

from dongled.capture.errors import CaptureError
from dongled.capture.stamp import read_stamp
from dongled.capture.testpicture import render
from dongled.capture.testsrc import TestPicture


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def started(clock: Clock, fps: int = 30) -> TestPicture:
    source = TestPicture(320, 180, fps, clock)
    source.start()
    return source


def test_every_picture_has_its_absolute_deadline() -> None:
    clock = Clock()
    source = started(clock)
    for n in range(1000):
        clock.now = 1000 + n / 30 + 0.009  # always late; a relative pace would add it up
        picture = source.read(0)
        assert picture is not None
        assert picture.sequence == n


def test_a_slow_reader_gets_the_newest_and_sees_the_gap() -> None:
    clock = Clock()
    source = started(clock)
    sequences = []
    for n in range(5):
        clock.now = 1000 + n * 0.5 + 0.001
        picture = source.read(0)
        assert picture is not None
        sequences.append(picture.sequence)
    assert sequences == [0, 15, 30, 45, 60]


def test_nothing_comes_before_it_is_due_or_twice() -> None:
    clock = Clock()
    source = started(clock)
    assert source.read(0) is not None
    assert source.read(0) is None
    clock.now += 0.02
    assert source.read(0.01) is None


def test_the_picture_says_when_it_was_drawn() -> None:
    clock = Clock()
    source = started(clock)
    clock.now = 1000.5
    picture = source.read(0)
    assert picture is not None
    assert picture.captured_at == 1000.5
    found = read_stamp(picture.frame)
    assert found is not None
    assert (found.sequence, found.captured_ms) == (picture.sequence, 1_000_500)
    assert picture.frame.format.name == "yuv420p"


def test_on_the_real_clock_it_keeps_its_rate() -> None:
    source = TestPicture(320, 180, 50, time.monotonic)
    source.start()
    begin = time.monotonic()
    last = 0
    while last < 20:
        picture = source.read(1)
        assert picture is not None
        last = picture.sequence
    assert 0.4 <= time.monotonic() - begin < 2


def test_close_wakes_a_reader_at_once() -> None:
    source = started(Clock())
    assert source.read(0) is not None
    failures: list[CaptureError] = []

    def read() -> None:
        try:
            source.read(30)
        except CaptureError as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    source.fps = 1
    reader.start()
    source.close()
    reader.join(25)
    assert [error.reason for error in failures] == ["closed"]


def test_drawing_is_cheap() -> None:
    render(0, 0, 1280, 720)
    # Processor time of the best of several rounds: other work on the machine does not count.
    costs = []
    for _ in range(5):
        begin = time.thread_time()
        for n in range(20):
            render(n, n, 1280, 720)
        costs.append((time.thread_time() - begin) / 20)
    assert min(costs) < 1.5e-3


@pytest.mark.parametrize("size", [(126, 96), (128, 40), (321, 180), (320, 181)])
def test_a_size_without_room_for_the_stamp_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CaptureError) as raised:
        TestPicture(*size, 30)
    assert raised.value.reason == "size-unusable"


def test_reading_needs_a_start() -> None:
    with pytest.raises(CaptureError) as raised:
        TestPicture(320, 180, 30).read(0)
    assert raised.value.reason == "not-started"
