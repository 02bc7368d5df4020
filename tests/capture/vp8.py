"""Through a real VP8 encoder and decoder and back (PyAV, libvpx), as a meeting's pictures go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av


def through_vp8(frames: Iterable[av.VideoFrame], bitrate: int, fps: int = 30) -> Iterator[av.VideoFrame]:
    """Each frame as a receiver gets it."""
    encoder = decoder = None
    for pts, frame in enumerate(frames):
        if encoder is None or decoder is None:
            encoder, decoder = _encoder(frame, bitrate, fps), av.CodecContext.create("vp8", "r")
        frame.pts = pts
        for packet in encoder.encode(frame):
            yield from decoder.decode(packet)


def _encoder(frame: av.VideoFrame, bitrate: int, fps: int) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
    encoder.bit_rate, encoder.time_base, encoder.framerate = bitrate, Fraction(1, fps), Fraction(fps)
    encoder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    return encoder
