"""From what a decoder or a camera gives to yuv420p, never by way of RGB."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, VideoReformatter

Raw = npt.NDArray[np.generic]

# V4L2's name of a format (FOURCC); FFmpeg's of the same, and per plane: bytes a line for each pixel of the
# picture's width, and lines of the picture for each of the plane's.
# https://www.kernel.org/doc/html/latest/userspace-api/media/v4l/pixfmt.html
UNCOMPRESSED = {
    "YUYV": ("yuyv422", ((2, 1),)),
    "UYVY": ("uyvy422", ((2, 1),)),
    "NV12": ("nv12", ((1, 1), (1, 2))),
    "GREY": ("gray", ((1, 1),)),
}
COMPRESSED = {"MJPG": "mjpeg", "JPEG": "mjpeg"}
FOURCCS = (*UNCOMPRESSED, *COMPRESSED)


class Scaler:
    """Makes every frame yuv420p of one size, in limited range; keeps its swscale context."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        # JPEG and many cameras use all of 0 to 255; swscale is not told so by the format's name alone.
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        if not full and (frame.format.name, frame.width, frame.height) == (
            "yuv420p",
            self.width,
            self.height,
        ):
            return frame
        return self._reformatter.reformat(
            frame,
            self.width,
            self.height,
            "yuv420p",
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
        )


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
        name, layout = UNCOMPRESSED[self._fourcc]
        frame = av.VideoFrame(self._width, self._height, name)
        for plane, (width_factor, height_divisor) in zip(frame.planes, layout, strict=True):
            rows, length = self._height // height_divisor, self._width * width_factor
            if octets.size < rows * length:
                return None
            # FFmpeg pads its lines; the buffer has none of that.
            lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            lines[:rows, :length] = octets[: rows * length].reshape(rows, length)
            octets = octets[rows * length :]
        return frame


def _decoder(name: str) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return decoder
