"""Encoder and decoder: one in, one out; key frames when asked; bitrate kept; bad input refused."""

from __future__ import annotations

import av
import numpy as np
import pytest

from dongled.media.api import Picture
from dongled.media.decoder import MOST_PIXELS, Vp8Decoder, picture_size
from dongled.media.encoder import CLOCK_RATE, Vp8Encoder
from dongled.media.errors import MediaError
from dongled.media.vp8 import is_key_frame
from support import moving


def encode(
    numbers: range, encoder: Vp8Encoder, keyframes: tuple[int, ...] = (), size: tuple[int, int] = (320, 192)
) -> list[tuple[bytes, int]]:
    return [
        encoder.encode(Picture(moving.make(n, *size), n, 5.0 + n / 30), keyframe=n in keyframes)
        for n in numbers
    ]


def test_each_picture_is_a_frame_and_only_asked_for_ones_are_key_frames() -> None:
    frames = encode(range(60), Vp8Encoder(bitrate=500_000, fps=30), (20, 41))
    assert [n for n, (data, _) in enumerate(frames) if is_key_frame(data)] == [0, 20, 41]


def test_timestamps_are_the_time_of_capture_at_90_khz() -> None:
    frames = encode(range(3), Vp8Encoder(bitrate=500_000, fps=30))
    assert [timestamp for _, timestamp in frames] == [5 * CLOCK_RATE + n * 3000 for n in range(3)]


def test_the_same_picture_again_has_a_later_timestamp() -> None:
    encoder = Vp8Encoder(bitrate=500_000, fps=30)
    picture = Picture(moving.make(0), 0, 1.0)
    first = encoder.encode(picture, keyframe=True)[1]
    assert encoder.encode(picture, keyframe=True)[1] == first + 1


def test_what_is_decoded_is_what_was_encoded() -> None:
    decoder = Vp8Decoder()
    for number, (data, _) in enumerate(encode(range(30), Vp8Encoder(bitrate=1_000_000, fps=30))):
        (frame,) = decoder.decode(data)
        assert moving.number_of(moving.luma_of(frame)) == number
        assert moving.psnr(frame) > 35
        assert frame.format.name == "yuv420p"


@pytest.mark.parametrize("bitrate", [300_000, 900_000])
def test_the_bitrate_is_kept(bitrate: int) -> None:
    noise = np.random.default_rng(3)
    encoder = Vp8Encoder(bitrate=bitrate, fps=30)
    size = 0
    for number in range(120):
        planes = moving.make(number).to_ndarray()
        planes[:192] += noise.integers(0, 20, (192, 320), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        size += len(encoder.encode(Picture(frame, number, number / 30), keyframe=False)[0])
    assert size * 8 / 4 == pytest.approx(bitrate, rel=0.25)


def test_another_size_begins_with_a_key_frame_of_that_size() -> None:
    encoder = Vp8Encoder(bitrate=500_000, fps=30)
    decoder = Vp8Decoder()
    frames = encode(range(3), encoder) + encode(range(3, 6), encoder, size=(640, 384))
    assert picture_size(frames[3][0]) == (640, 384)
    assert [decoder.decode(data)[0].width for data, _ in frames] == [320] * 3 + [640] * 3


def test_a_picture_that_libvpx_refuses_is_an_error_with_a_hint() -> None:
    frame = av.VideoFrame(16_400, 16, "yuv420p")
    with pytest.raises(MediaError) as caught:
        Vp8Encoder(bitrate=500_000, fps=30).encode(Picture(frame, 0, 0.0), keyframe=False)
    assert (caught.value.reason, bool(caught.value.hint)) == ("encoder-failed", True)


def test_a_huge_picture_is_refused_before_it_is_allocated() -> None:
    huge = bytes.fromhex("1000009d012a") + (16383).to_bytes(2, "little") * 2 + bytes(100)
    assert picture_size(huge) == (16383, 16383)
    assert MOST_PIXELS < 16383**2
    with pytest.raises(MediaError) as caught:
        Vp8Decoder().decode(huge)
    assert caught.value.reason == "picture-too-large"


def test_garbage_is_refused_and_the_next_key_frame_decodes() -> None:
    frames = encode(range(3), Vp8Encoder(bitrate=500_000, fps=30))
    decoder = Vp8Decoder()
    decoder.decode(frames[0][0])
    for garbage in (b"\x10\x00\x00" + bytes(7), frames[0][0][:10], b"\x10"):
        with pytest.raises(MediaError) as caught:
            decoder.decode(garbage)
        assert caught.value.reason == "decoder-refused"
    assert moving.psnr(decoder.decode(frames[0][0])[0]) > 30


def test_a_delta_frame_without_its_key_frame_is_refused() -> None:
    frames = encode(range(2), Vp8Encoder(bitrate=500_000, fps=30))
    with pytest.raises(MediaError):
        Vp8Decoder().decode(frames[1][0])
