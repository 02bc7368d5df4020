"""A camera that comes late, goes, hangs and comes back: real netlink, and the device is the double."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.test_camera import FakeCapture
from dongled.capture import camera as camera_module
from dongled.capture.camera import Camera
from dongled.capture.errors import CaptureError
from dongled.capture.plugging import Plugging
from dongled.capture.returning import LOOK_EVERY, LOOK_MOST, STALLED, Returning
from dongled.media.api import PatientSource, Picture
from support import moving

ADDED = b"add@/devices/pci0000:00/video4linux/video0\0ACTION=add\0SUBSYSTEM=video4linux\0SEQNUM=1\0"
OTHER = b"add@/devices/virtual/mem/null\0ACTION=add\0SUBSYSTEM=mem\0SEQNUM=2\0"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class News(Plugging):
    """Tells when a test says so; waiting costs the clock's time."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.told, self.open = clock, False, True

    def wait(self, seconds: float) -> bool:
        told, self.told = self.told, False
        self.clock.now += 0.0 if told else seconds
        return told

    def close(self) -> None:
        self.open = False


class Device:
    """What is plugged in, and all that was opened of it."""

    def __init__(self) -> None:
        self.there, self.hangs = True, False
        self.opened: list[Source] = []
        self.tries = 0


class Source:
    width, height, fps = 320, 192, 30

    def __init__(self, device: Device) -> None:
        self.device = device
        self.closed = False
        self.number = 0

    def start(self) -> None:
        self.device.tries += 1
        if not self.device.there:
            raise CaptureError("camera-absent", "no such file", "plug it in")
        self.device.opened.append(self)

    def read(self, timeout: float) -> Picture | None:
        assert not self.closed
        if self.device.hangs:
            return None
        if not self.device.there:
            raise CaptureError("camera-gone", "unplugged", "plug it in again")
        self.number += 1
        return Picture(moving.make(0), self.number - 1, 0.0)

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self) -> None:
        self.clock, self.device = Clock(), Device()
        self.news: list[News] = []
        self.source = Returning(lambda: Source(self.device), plugging=self._listen, clock=self.clock)

    def _listen(self) -> News:
        self.news.append(News(self.clock))
        return self.news[-1]

    def until_back(self) -> float:
        """Seconds of the clock until there is a picture."""
        began = self.clock.now
        while self.source.read(0.2) is None:
            assert self.clock.now - began < 60
        return self.clock.now - began


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_one_that_is_there_is_read_as_it_is(bench: Bench) -> None:
    bench.source.start()
    assert [bench.source.read(0.2).sequence for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]  # is there
    assert (bench.source.why, bench.news) == ("", [])
    assert isinstance(bench.source, PatientSource)


def test_one_that_comes_late_is_waited_for(bench: Bench) -> None:
    bench.device.there = False
    bench.source.start()
    assert bench.source.read(0.2) is None
    assert "[camera-absent]" in bench.source.why
    bench.device.there = True
    assert bench.until_back() <= LOOK_MOST + 0.2
    assert (bench.source.why, bench.news[0].open) == ("", False)


def test_one_that_was_pulled_is_closed_and_opened_anew_as_soon_as_it_is_told(bench: Bench) -> None:
    bench.source.start()
    bench.source.read(0.2)
    bench.device.there = False
    assert bench.source.read(0.2) is None
    assert "[camera-gone]" in bench.source.why
    assert bench.device.opened[0].closed
    for _ in range(100):
        assert bench.source.read(0.2) is None
    tries = bench.device.tries
    assert tries < 20 * 0.2 * 100 / LOOK_EVERY
    bench.device.there, bench.news[-1].told = True, True
    assert bench.until_back() < 1.0
    assert len(bench.device.opened) == 2
    # What counts pictures counts on.
    picture = bench.source.read(0.2)
    assert picture is not None
    assert picture.sequence == 2


def test_one_that_hangs_without_an_error_is_opened_anew(bench: Bench) -> None:
    bench.source.start()
    bench.source.read(0.2)
    bench.device.hangs = True
    assert bench.source.read(0.2) is None
    assert bench.source.why == ""
    bench.clock.now += STALLED + 1
    assert bench.source.read(0.2) is None
    assert "[camera-stalled]" in bench.source.why
    assert bench.device.opened[0].closed
    bench.device.hangs = False
    bench.until_back()


def test_a_flood_of_events_does_not_open_it_without_end(bench: Bench) -> None:
    bench.device.there = False
    bench.source.start()
    began = bench.clock.now
    while bench.clock.now - began < 30:
        bench.source.read(0.2)
        bench.news[-1].told = True
        bench.clock.now += 0.001
    assert bench.device.tries < 30 / 0.3 + 5


def test_what_was_closed_is_not_opened_again(bench: Bench) -> None:
    bench.device.there = False
    bench.source.start()
    bench.source.read(0.2)
    bench.source.close()
    bench.device.there = True
    with pytest.raises(CaptureError) as ended:
        bench.source.read(0.2)
    assert ended.value.reason == "closed"
    assert not bench.news[-1].open


@pytest.fixture
def kernel() -> Iterator[socket.socket]:
    """Says what the kernel would say, in this network namespace, whose root the suite is."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:
        yield sender


def test_the_kernel_is_heard_and_of_video_alone(kernel: socket.socket) -> None:
    news = Plugging()
    kernel.sendto(OTHER, (0, 1))
    assert not news.wait(0.1)
    for group in (1, 2):
        kernel.sendto(OTHER, (0, 1))
        kernel.sendto(ADDED, (0, group))
        assert news.wait(30)
        assert not news.wait(0)
    news.close()


def test_more_news_than_fit_are_news(kernel: socket.socket) -> None:
    news = Plugging()
    for _ in range(5000):
        kernel.sendto(OTHER, (0, 1))
    assert news.wait(30)
    news.close()


def test_without_netlink_it_is_looked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> socket.socket:
        raise OSError("not here")

    monkeypatch.setattr(socket, "socket", refused)
    news = Plugging()
    began = time.monotonic()
    assert not news.wait(0.05)
    assert time.monotonic() - began >= 0.05
    news.close()


def test_a_camera_whose_node_goes_and_comes_is_read_again(
    tmp_path: Path, kernel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real camera, its thread and netlink; a fifo is in the device's place, and OpenCV is a double."""
    node = tmp_path / "video0"
    captures: list[FakeCapture] = []

    def check(device: Path) -> None:
        if not device.exists():
            raise CaptureError("camera-absent", str(device), "plug it in")

    def capture(_: Path) -> FakeCapture:
        captures.append(FakeCapture(("YUYV",), pictures=5))
        captures[-1].flow()
        return captures[-1]

    monkeypatch.setattr(camera_module, "check_node", check)
    monkeypatch.setattr(camera_module, "_open", capture)
    source = Returning(lambda: Camera(node, 320, 180, 30))
    source.start()
    assert "[camera-absent]" in source.why
    os.mkfifo(node)
    kernel.sendto(ADDED, (0, 2))
    pictures = 0
    deadline = time.monotonic() + 60
    while len(captures) < 3 and time.monotonic() < deadline:
        picture = source.read(0.1)
        pictures += picture is not None
        if picture is None:
            kernel.sendto(ADDED, (0, 2))
    assert len(captures) == 3
    assert pictures >= 2
    assert all(each.released.wait(10) for each in captures[:2])
    source.close()
    assert not [thread for thread in threading.enumerate() if str(node) in thread.name]
