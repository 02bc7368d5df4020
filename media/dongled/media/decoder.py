"""Opened frames in, pictures out. One class a codec; VP8 is the only one yet."""

from __future__ import annotations

import av
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from dongled.media.errors import MediaError
from dongled.media.vp8 import KEY_PREFIX, is_key_frame

MOST_PIXELS = 4096 * 2304
"""The largest picture that is decoded."""


class Vp8Decoder:
    """FFmpeg's own VP8 decoder, cheaper than libvpx's. One thread, no frame of delay."""

    def __init__(self) -> None:
        self._context = _opened()

    def decode(self, frame: bytes) -> list[av.VideoFrame]:
        """The pictures of a frame, yuv420p: one, or none where it is not meant to be shown.

        Raises MediaError: ``picture-too-large`` before anything is allocated for it, ``decoder-refused``.
        Go on at a key frame then.
        """
        width, height = picture_size(frame)
        if width * height > MOST_PIXELS:
            raise MediaError("picture-too-large", f"a picture of {width}x{height} was refused")
        try:
            return self._context.decode(av.Packet(frame))
        except (FFmpegError, ValueError) as error:
            self._context = _opened()
            raise MediaError("decoder-refused", f"the VP8 decoder refused a frame: {error}") from error


def picture_size(frame: bytes) -> tuple[int, int]:
    """Width and height that a VP8 key frame announces (RFC 6386, section 9.1); 0, 0 for any other frame."""
    if not is_key_frame(frame) or len(frame) < KEY_PREFIX:
        return 0, 0
    return int.from_bytes(frame[6:8], "little") & 0x3FFF, int.from_bytes(frame[8:10], "little") & 0x3FFF


def _opened() -> VideoCodecContext:
    context = VideoCodecContext.create("vp8", "r")
    context.thread_count = 1
    return context
