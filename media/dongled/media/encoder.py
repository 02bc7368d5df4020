"""Pictures in, encoded frames out. One class a codec; VP8 is the only one yet."""

from __future__ import annotations

from fractions import Fraction

from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from dongled.media.api import Picture
from dongled.media.errors import MediaError

CLOCK_RATE = 90_000
"""RTP's clock for video, Hz (RFC 7741, section 4.1)."""

TIME_BASE = Fraction(1, CLOCK_RATE)

_KEYFRAME_EVERY = 3000
_SPEED = "-8"


class Vp8Encoder:
    """libvpx for conversation: one picture in, one frame out, constant ``bitrate`` (bit/s).

    One thread: 720p at 30 fps takes a quarter of a desktop core, and each further thread costs memory.
    Error resilience is off because a receiver that lost a frame waits for the next key frame anyway
    (inbound.py); those come on request, and every 3000 frames.
    """

    def __init__(self, *, bitrate: int, fps: int) -> None:
        self._bitrate = bitrate
        self._fps = fps
        self._context: VideoCodecContext | None = None
        self._last_pts = -1

    def encode(self, picture: Picture, *, keyframe: bool) -> tuple[bytes, int]:
        """An encoded frame and its timestamp on the 90 kHz clock, strictly rising.

        Stamps ``picture.frame`` with time and type: the picture belongs to the encoder. Raises MediaError.
        """
        frame = picture.frame
        try:
            context = self._opened(frame.width, frame.height)
            self._last_pts = max(round(picture.captured_at * CLOCK_RATE), self._last_pts + 1)
            frame.pts = self._last_pts
            frame.time_base = TIME_BASE
            frame.pict_type = PictureType.I if keyframe else PictureType.NONE
            packets = context.encode(frame)
        except (FFmpegError, ValueError) as error:
            raise MediaError(
                "encoder-failed",
                f"libvpx refused a {frame.width}x{frame.height} {frame.format.name} picture: {error}",
                "check the source's size and pixel format",
            ) from error
        return b"".join(bytes(packet) for packet in packets), self._last_pts

    def _opened(self, width: int, height: int) -> VideoCodecContext:
        if self._context is not None and (self._context.width, self._context.height) == (width, height):
            return self._context
        context = VideoCodecContext.create("libvpx", "w")
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        context.time_base = TIME_BASE
        context.framerate = Fraction(self._fps)
        context.gop_size = _KEYFRAME_EVERY
        context.bit_rate = self._bitrate
        context.qmin, context.qmax = 2, 56
        context.thread_count = 1
        context.options = {
            "deadline": "realtime",
            "cpu-used": _SPEED,
            "lag-in-frames": "0",
            # Equal rates make libvpx keep the bitrate constant, within half a second.
            "minrate": str(self._bitrate),
            "maxrate": str(self._bitrate),
            "bufsize": str(self._bitrate // 2),
            "overshoot-pct": "15",
            "undershoot-pct": "100",
        }
        context.open()
        self._context = context
        return context
