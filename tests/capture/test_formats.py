"""What cameras offer, by a kernel's double that answers in the layout of the kernel's own header."""

from __future__ import annotations

import errno
import fcntl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dongled.capture import formats as module
from dongled.capture.errors import CaptureError
from dongled.capture.formats import CAPABILITY, DESCRIPTION, FRAME_SIZE, Format, formats

# Prints sizes, numbers and offsets as <linux/videodev2.h> has them.
LAYOUT = """
#include <linux/videodev2.h>
#include <stddef.h>
#include <stdio.h>
int main(void) {
    printf("%zu %zu %zu ", sizeof(struct v4l2_capability), sizeof(struct v4l2_fmtdesc),
           sizeof(struct v4l2_frmsizeenum));
    printf("%u %u ", (unsigned)VIDIOC_QUERYCAP, (unsigned)VIDIOC_ENUM_FMT);
    printf("%u ", (unsigned)VIDIOC_ENUM_FRAMESIZES);
    printf("%zu ", offsetof(struct v4l2_capability, device_caps));
    printf("%zu ", offsetof(struct v4l2_fmtdesc, pixelformat));
    printf("%zu ", offsetof(struct v4l2_frmsizeenum, type));
    printf("%zu ", offsetof(struct v4l2_frmsizeenum, stepwise));
    printf("%zu ", offsetof(struct v4l2_frmsize_stepwise, min_height));
    printf("%u %u ", V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE);
    printf("%u %u ", V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE);
    printf("%u", V4L2_FRMSIZE_TYPE_DISCRETE);
    return 0;
}
"""


def test_the_layout_is_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "layout.c").write_text(LAYOUT)
    subprocess.run(["gcc", "-o", tmp_path / "layout", tmp_path / "layout.c"], check=True)
    told = subprocess.run([tmp_path / "layout"], capture_output=True, text=True, check=True).stdout
    single, several = module._BUFFERS
    assert [int(each) for each in told.split()] == [
        CAPABILITY.size, DESCRIPTION.size, FRAME_SIZE.size,
        module.QUERYCAP, module.ENUM_FMT, module.ENUM_FRAMESIZES,
        16 + 32 + 32 + 4 + 4, 4 + 4 + 4 + 32,
        8, 12, 12, single, several,
        module._BUFFERS[single], module._BUFFERS[several], module._DISCRETE,
    ]  # fmt: skip


@dataclass
class Kernel:
    """A camera: its capabilities, and each FOURCC with its sizes, or with the ends of a range."""

    offers: dict[str, Sequence[tuple[int, int]]]
    capabilities: int = 1
    stepwise: bool = False
    error: int = errno.EINVAL

    def ioctl(self, file: int, request: int, argument: bytes) -> bytes:
        if request == module.QUERYCAP:
            return CAPABILITY.pack(b"double", b"Camera", b"usb", 0, 1 << 31, self.capabilities)
        fourccs = list(self.offers)
        index = int.from_bytes(argument[:4], "little")
        if request == module.ENUM_FMT:
            if index < len(fourccs):
                code = int.from_bytes(fourccs[index].encode(), "little")
                return DESCRIPTION.pack(index, 1, 0, b"", code, 0)
        elif request == module.ENUM_FRAMESIZES:
            code = int.from_bytes(argument[4:8], "little")
            sizes = self.offers[argument[4:8].decode()]
            if self.stepwise and index == 0:
                (w, h), (most_w, most_h) = sizes
                return FRAME_SIZE.pack(0, code, 3, w, most_w, 2, h, most_h, 2)
            if not self.stepwise and index < len(sizes):
                return FRAME_SIZE.pack(index, code, 1, *sizes[index], 0, 0, 0, 0)
        raise OSError(self.error, "none")

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "ioctl", self.ioctl)


# A character device that may be opened, and that only the double knows to be a camera.
NODE = Path("/dev/null")


def test_formats_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel({"YUYV": [(640, 480), (320, 240)], "H264": [(1920, 1080)]}).use(monkeypatch)
    yuyv, h264 = formats(NODE)
    assert yuyv == Format("YUYV", ((640, 480), (320, 240)))
    assert (yuyv.supported, h264.supported) == (True, False)
    assert (yuyv.has(640, 480), yuyv.has(1280, 720), h264.has(1920, 1080)) == (True, False, True)


def test_a_camera_with_any_size_between_two(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel({"NV12": [(64, 48), (1920, 1080)]}, stepwise=True, capabilities=0x1000).use(monkeypatch)
    (nv12,) = formats(NODE)
    assert nv12.has(1280, 720)
    assert not nv12.has(1922, 1080)


def test_a_node_that_gives_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel({}, capabilities=1 << 23).use(monkeypatch)
    with pytest.raises(CaptureError) as caught:
        formats(NODE)
    assert caught.value.reason == "camera-not-capture"
    assert "index0" in caught.value.hint


def test_what_is_no_camera_at_all(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        formats(NODE)
    assert caught.value.reason == "camera-not-capture"
    with pytest.raises(CaptureError) as caught:
        formats(tmp_path / "gone")
    assert caught.value.reason == "camera-absent"


def test_a_camera_that_goes_while_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel({}, error=errno.ENODEV).use(monkeypatch)
    with pytest.raises(CaptureError) as caught:
        formats(NODE)
    assert caught.value.reason == "camera-gone"


def test_a_driver_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = [(n, n) for n in range(10_000)]
    Kernel({f"{n:04}": endless for n in range(1000)}).use(monkeypatch)
    found = formats(NODE)
    assert len(found) == len(found[0].sizes) == module._MOST
