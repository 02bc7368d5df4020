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
        # RFC 6386, section 9.1: 14 bits of width and of height end a key frame's first ten bytes
        if is_key_frame(frame) and len(frame) >= KEY_PREFIX:
            width, height = (int.from_bytes(frame[at : at + 2], "little") & 0x3FFF for at in (6, 8))
            if width * height > MOST_PIXELS:
                raise MediaError("picture-too-large", f"a picture of {width}x{height} was refused")
        try:
            return self._context.decode(av.Packet(frame))
        except (FFmpegError, ValueError) as error:
            self._context = _opened()
            raise MediaError("decoder-refused", f"the VP8 decoder refused a frame: {error}") from error


def _opened() -> VideoCodecContext:
    context = VideoCodecContext.create("vp8", "r")
    context.thread_count = 1
    return context
