"""Senders, receivers and frames for tests; and a second sealer that shares no code with the first."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import cbor2
import numpy as np
import wrtc  # type: ignore[import-not-found]  # a compiled module without stubs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dongled.media.api import StreamContext
from dongled.media.frames import FrameOpener, FrameSealer

KEY_SIZE = {4: 32, 5: 64}


def context(**changes: Any) -> StreamContext:
    return replace(StreamContext("ward 3", bytes(range(16)), "camera", "vp8"), **changes)


@dataclass(frozen=True)
class Generation:
    """What a sender hands out for one generation, and the signing key that it does not."""

    kid: int = 1
    suite: int = 5
    base_key: bytes = b""
    signer: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        if not self.base_key:
            object.__setattr__(self, "base_key", os.urandom(KEY_SIZE[self.suite]))

    @property
    def signing_key(self) -> bytes:
        return self.signer.private_bytes_raw()

    @property
    def verify_key(self) -> bytes:
        return self.signer.public_key().public_bytes_raw()


def sealer(generation: Generation, of: StreamContext | None = None) -> FrameSealer:
    made = FrameSealer(of or context())
    made.use(generation.kid, generation.base_key, generation.signing_key, generation.suite)
    return made


def opener(*generations: Generation, of: StreamContext | None = None) -> FrameOpener:
    made = FrameOpener(of or context())
    for generation in generations:
        made.install(generation.kid, generation.base_key, generation.verify_key, generation.suite)
    return made


def key_frame(payload: bytes = b"key frame payload") -> bytes:
    """Bytes that look like a VP8 key frame of 320x240 to whoever reads its first ten."""
    return bytes.fromhex("1000009d012a4001f000") + payload


def delta_frame(payload: bytes = b"delta frame payload") -> bytes:
    return b"\x31" + payload


def metadata(of: StreamContext, clear: bytes) -> bytes:
    """The authenticated bytes, written down again from docs/protocol.md."""
    return cbor2.dumps([1, of.meeting, of.session, of.stream, of.codec, clear], canonical=True)


def statement(of: StreamContext, clear: bytes, rest: bytes, kid: int, ctr: int) -> bytes:
    return (
        b"dongled/1 frame"
        + hashlib.sha256(metadata(of, clear)).digest()
        + kid.to_bytes(8, "big")
        + ctr.to_bytes(8, "big")
        + hashlib.sha256(rest).digest()
    )


def seal_elsewhere(
    generation: Generation, clear: bytes, plaintext: bytes, ctr: int, of: StreamContext
) -> bytes:
    """``clear`` and the SFrame of ``plaintext`` by libwebrtc: what any holder of the base key can make."""
    sealed = wrtc._sframeEncrypt(
        generation.suite, generation.base_key, generation.kid, ctr, metadata(of, clear), plaintext
    )
    return clear + bytes(sealed)


def open_elsewhere(generation: Generation, clear: bytes, sealed: bytes, of: StreamContext) -> bytes | None:
    """The SFrame plaintext by libwebrtc, or None."""
    opened = wrtc._sframeDecrypt(generation.suite, generation.base_key, metadata(of, clear), sealed)
    return None if opened is None else bytes(opened)


@functools.cache
def encoded_vp8(frames: int = 12, width: int = 160, height: int = 96) -> tuple[bytes, ...]:
    """Frames of a moving, noisy picture by libvpx, a key frame first and in the middle."""
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.bit_rate = Fraction(1, 30), 800_000
    encoder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    noise = np.random.default_rng(7)
    packets = []
    for number in range(frames):
        picture = noise.integers(0, 60, (height * 3 // 2, width), dtype=np.uint8)
        picture[:height, width // 4 + (7 * number) % (width // 2) :] += 180
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = number
        if number == frames // 2:
            frame.pict_type = av.video.frame.PictureType.I
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return tuple(packets)


def decode_vp8_pictures(frames: list[bytes]) -> list[np.ndarray]:
    """The luma planes that libavcodec's VP8 decoder makes of the frames; what it refuses makes none."""
    decoder = av.CodecContext.create("vp8", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = []
    for frame in frames:
        try:
            decoded = decoder.decode(av.Packet(frame))
        except av.error.FFmpegError:
            continue
        pictures += [picture.to_ndarray(format="gray") for picture in decoded]
    return pictures


def decode_vp8(frames: list[bytes]) -> int:
    """How many of the frames make a picture."""
    return len(decode_vp8_pictures(frames))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Likeness of two pictures of one size, dB."""
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))
