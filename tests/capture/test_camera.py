"""The camera: formats on buffers as V4L2 gives them, errors on devices that are none.

The capture object is a double here, since no camera is at hand; its buffers are real YUYV, NV12 and MJPEG.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from dongled.capture.camera import CONVERT_RGB, FOURCC, FPS, FRAME_HEIGHT, FRAME_WIDTH, Camera
from dongled.capture.convert import Raw, Scaler, Unpacker
from dongled.capture.errors import CaptureError
from dongled.capture.stamp import Stamp, luma_of, read_stamp
from dongled.capture.testpicture import psnr_db, render

WIDTH, HEIGHT = 320, 180
NAMES = {"YUYV": "yuyv422", "NV12": "nv12", "GREY": "gray"}


def buffer(fourcc: str, sequence: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Raw:
    """A stamped picture as a camera of this format gives it."""
    frame = render(sequence, 0, width, height).frame()
    if fourcc in ("MJPG", "JPEG"):
        encoder = av.CodecContext.create("mjpeg", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
        encoder.time_base, encoder.qmin, encoder.qmax = Fraction(1, 30), 2, 2
        full = frame.reformat(format="yuvj420p", src_color_range="MPEG", dst_color_range="JPEG")
        return np.frombuffer(bytes(encoder.encode(full)[0]), np.uint8).reshape(1, -1)
    if fourcc == "UYVY":
        return buffer("YUYV", sequence, width, height)[..., ::-1]
    return frame.reformat(format=NAMES[fourcc]).to_ndarray()


class FakeCapture:
    """A camera as cv2.VideoCapture shows one: ``formats`` it has, first the one that it falls back to."""

    def __init__(
        self, formats: tuple[str, ...], size: tuple[int, int] = (WIDTH, HEIGHT), pictures: int = 10**9
    ):
        self.formats, self.size, self.pictures = formats, size, pictures
        self.fourcc = formats[0]
        self.asked: list[tuple[int, float]] = []
        self.served = 0
        self.released = threading.Event()
        self.more = threading.Semaphore(0)
        self.buffer: Callable[[int], Raw] = lambda n: buffer(self.fourcc, n, *self.size)

    def isOpened(self) -> bool:
        return True

    def set(self, prop: int, value: float) -> bool:
        self.asked.append((prop, value))
        if prop == FOURCC and (name := int(value).to_bytes(4, "little").decode()) in self.formats:
            self.fourcc = name
        return True

    def get(self, prop: int) -> float:
        code = int.from_bytes(self.fourcc.encode(), "little")
        return {FOURCC: code, FRAME_WIDTH: self.size[0], FRAME_HEIGHT: self.size[1], FPS: 30}[prop]

    def grab(self) -> bool:
        assert not self.released.is_set()
        if self.served >= self.pictures:
            return False
        self.more.acquire()
        self.served += 1
        return True

    def flow(self) -> None:
        """From now on a picture whenever one is asked for, so that the thread can see that it shall stop."""
        self.more.release(1_000_000)

    def retrieve(self) -> tuple[bool, Raw]:
        return True, self.buffer(self.served - 1)

    def release(self) -> None:
        self.released.set()


def camera(fake: FakeCapture, device: Path, size: tuple[int, int] = (WIDTH, HEIGHT), fps: int = 30) -> Camera:
    return Camera(device, *size, fps, opener=lambda path: fake)


@pytest.mark.parametrize("fourcc", ["YUYV", "UYVY", "NV12", "MJPG", "JPEG", "GREY"])
def test_each_format_becomes_the_picture_it_was(fourcc: str) -> None:
    frame = Unpacker(fourcc, WIDTH, HEIGHT)(buffer(fourcc, 5))
    assert frame is not None
    frame = Scaler(WIDTH, HEIGHT)(frame)
    assert frame.format.name == "yuv420p"
    assert read_stamp(frame) == Stamp(5, 0)
    source = render(5, 0, WIDTH, HEIGHT)
    assert psnr_db(frame, source.y) > (28 if fourcc == "GREY" else 38)
    if fourcc != "GREY":
        chroma = np.frombuffer(memoryview(frame.planes[1]), np.uint8).reshape(-1, frame.planes[1].line_size)
        assert np.abs(chroma[: HEIGHT // 2, : WIDTH // 2].astype(int) - source.u).mean() < 3


@pytest.mark.parametrize("fourcc", ["YUYV", "NV12", "MJPG"])
def test_a_buffer_of_any_shape_is_read_and_one_cut_short_is_dropped(fourcc: str) -> None:
    raw = buffer(fourcc)
    flat = raw.reshape(1, -1)
    assert Unpacker(fourcc, WIDTH, HEIGHT)(flat) is not None
    padded = np.concatenate([flat, np.zeros((1, 64), np.uint8)], axis=1)
    assert Unpacker(fourcc, WIDTH, HEIGHT)(padded) is not None
    assert Unpacker(fourcc, WIDTH, HEIGHT)(flat[:, :7]) is None


@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p", "yuyv422", "gray"])
def test_full_range_is_made_limited_and_limited_left_alone(name: str) -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    for plane in frame.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = 128
    luma = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
    luma[:: 2 if name == "yuyv422" else 1] = 255
    frame.color_range = ColorRange.JPEG
    assert set(np.unique(luma_of(Scaler(WIDTH, HEIGHT)(frame)))) == {235}
    if name not in ("yuvj420p", "gray"):  # those are full range by definition
        frame.color_range = ColorRange.MPEG
        assert set(np.unique(luma_of(Scaler(WIDTH, HEIGHT)(frame)))) == {255}


def test_yuyv_never_goes_through_rgb() -> None:
    """A grey ramp keeps every level: through BGR 8-bit rounding loses some."""
    raw = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
    raw[..., 0] = np.arange(16, 16 + HEIGHT, dtype=np.uint8)[:, None]
    frame = Unpacker("YUYV", WIDTH, HEIGHT)(raw)
    assert frame is not None
    assert np.array_equal(luma_of(Scaler(WIDTH, HEIGHT)(frame)), raw[..., 0])


@pytest.mark.parametrize(
    ("formats", "size", "wanted"),
    [
        (("YUYV", "MJPG"), (320, 180), "YUYV"),
        (("YUYV", "MJPG"), (1280, 720), "MJPG"),
        (("MJPG",), (320, 180), "MJPG"),
        (("YUYV",), (1280, 720), "YUYV"),
        (("NV12",), (320, 180), "NV12"),
    ],
)
def test_it_asks_for_what_fits_the_wire_and_takes_what_there_is(
    formats: tuple[str, ...], size: tuple[int, int], wanted: str, tmp_path: Path
) -> None:
    fake = FakeCapture(formats, size)
    source = camera(fake, tmp_path / "video0", size)
    source.start()
    fake.more.release()
    picture = source.read(10)
    assert picture is not None
    assert fake.fourcc == wanted
    assert fake.asked[-1] == (CONVERT_RGB, 0)
    assert read_stamp(picture.frame) == Stamp(0, 0)
    fake.flow()
    source.close()
    assert fake.released.is_set()


def test_a_camera_of_another_size_is_scaled(tmp_path: Path) -> None:
    fake = FakeCapture(("YUYV",), (640, 480))
    source = camera(fake, tmp_path / "video0")
    source.start()
    fake.more.release()
    picture = source.read(10)
    fake.flow()
    source.close()
    assert picture is not None
    assert (picture.frame.width, picture.frame.height) == (WIDTH, HEIGHT)


def test_a_damaged_picture_is_skipped_and_counted(tmp_path: Path) -> None:
    fake = FakeCapture(("MJPG",))

    def pictures(number: int) -> Raw:
        if number == 0:
            return np.frombuffer(b"\xff\xd8\xff\xe0garbage", np.uint8)
        return buffer("MJPG", number)

    fake.buffer = pictures
    source = camera(fake, tmp_path / "video0")
    source.start()
    fake.more.release()
    assert source.read(0.3) is None
    assert source.damaged == 1
    fake.more.release()
    picture = source.read(10)
    fake.flow()
    source.close()
    assert picture is not None
    assert picture.sequence == 1


@pytest.mark.parametrize(("present", "reason"), [(False, "camera-gone"), (True, "camera-stalled")])
def test_a_lost_camera_is_told_to_the_reader(present: bool, reason: str, tmp_path: Path) -> None:
    device = tmp_path / "video0"
    if present:
        device.touch()
    fake = FakeCapture(("YUYV",), pictures=0)
    source = camera(fake, device)
    source.start()
    with pytest.raises(CaptureError) as raised:
        source.read(10)
    assert raised.value.reason == reason
    assert raised.value.hint
    assert fake.released.wait(10)
    source.close()


def test_an_unsupported_format_is_refused_and_the_camera_released(tmp_path: Path) -> None:
    fake = FakeCapture(("H264",))
    with pytest.raises(CaptureError, match="H264") as raised:
        camera(fake, tmp_path / "video0").start()
    assert raised.value.reason == "camera-format"
    assert fake.released.is_set()


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("/dev/v4l/by-path/none", "camera-absent"),
        (__file__, "camera-not-a-device"),
        ("/dev/null", "camera-unusable"),
    ],
)
def test_real_opencv_says_clearly_what_is_wrong_with_a_device(device: str, reason: str) -> None:
    source = Camera(Path(device), WIDTH, HEIGHT, 30)
    with pytest.raises(CaptureError) as raised:
        source.start()
    assert raised.value.reason == reason
    assert device in str(raised.value)
    assert raised.value.hint
    source.close()


def test_opencv_is_imported_only_to_open_a_camera() -> None:
    code = (
        "import sys, dongled.capture.camera, dongled.capture.factory\n"
        "assert 'cv2' not in sys.modules and 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_property_numbers_are_opencvs() -> None:
    import cv2

    ours = (FRAME_WIDTH, FRAME_HEIGHT, FPS, FOURCC, CONVERT_RGB)
    assert ours == (
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_CONVERT_RGB,
    )
