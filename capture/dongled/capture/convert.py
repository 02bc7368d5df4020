"""From what a decoder or a camera gives to yuv420p, never by way of RGB."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

Raw = npt.NDArray[np.generic]

# V4L2's name of a format (FOURCC), and FFmpeg's of the same.
# https://www.kernel.org/doc/html/latest/userspace-api/media/v4l/pixfmt.html
PACKED = {"YUYV": "yuyv422", "UYVY": "uyvy422"}
PLANAR = {"NV12": "nv12"}
GREY = {"GREY": "gray"}
COMPRESSED = {"MJPG": "mjpeg", "JPEG": "mjpeg"}
FOURCCS = (*PACKED, *PLANAR, *GREY, *COMPRESSED)


class Scaler:
    """Makes every frame yuv420p of one size, in limited range; keeps its swscale context."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        if (frame.format.name, frame.width, frame.height) == ("yuv420p", self.width, self.height):
            return frame
        return self._reformatter.reformat(frame, self.width, self.height, "yuv420p")


class Unpacker:
    """Makes frames of a camera's raw buffers, all of one FOURCC and size. ``fourcc`` is one of FOURCCS."""

    def __init__(self, fourcc: str, width: int, height: int) -> None:
        self._fourcc, self._width, self._height = fourcc, width, height
        self._decoder = _decoder(COMPRESSED[fourcc]) if fourcc in COMPRESSED else None

    def __call__(self, raw: Raw) -> av.VideoFrame | None:
        """The frame in a buffer of whatever shape; None when it is damaged or cut short."""
        octets = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
        if self._decoder is not None:
            try:
                frames = self._decoder.decode(av.Packet(octets.tobytes()))
            except av.FFmpegError:
                return None
            return frames[-1] if frames else None
        shape, name = self._layout()
        size = int(np.prod(shape))
        if octets.size < size:
            return None
        return av.VideoFrame.from_ndarray(octets[:size].reshape(shape), format=name)

    def _layout(self) -> tuple[tuple[int, ...], str]:
        if self._fourcc in PACKED:
            return (self._height, self._width, 2), PACKED[self._fourcc]
        if self._fourcc in PLANAR:
            return (self._height * 3 // 2, self._width), PLANAR[self._fourcc]
        return (self._height, self._width), GREY[self._fourcc]


def _decoder(name: str) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return decoder
