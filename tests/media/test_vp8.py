"""VP8's clear prefix, on bytes by hand and on libvpx's own frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.media.errors import FrameRejected, MediaError
from dongled.media.rules import RULES, rule_for
from dongled.media.vp8 import Vp8Rule, clear_size, is_key_frame
from support import frames


def test_libvpx_frames_are_cut_where_the_rule_says() -> None:
    encoded = frames.encoded_vp8()
    kinds = [is_key_frame(frame) for frame in encoded]
    assert kinds.count(True) == 2
    assert kinds[0]
    for frame, key in zip(encoded, kinds, strict=True):
        clear, rest = Vp8Rule().split(frame)
        assert len(clear) == (10 if key else 1)
        assert Vp8Rule().join(clear, rest) == frame


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(frames.key_frame(b"")[:9], id="key frame cut"),
        pytest.param(frames.key_frame(b""), id="key frame, nothing after"),
        pytest.param(b"\x01", id="delta, nothing after"),
        pytest.param(b"\x10\x00\x00\x9d\x01\x2b\x40\x01\xf0\x00rest", id="start code"),
        pytest.param(b"\x10\x00\x00\x9d\x01\x2a\x00\x00\xf0\x00rest", id="no width"),
        pytest.param(b"\x10\x00\x00\x9d\x01\x2a\x40\x01\x00\xc0rest", id="scale but no height"),
        pytest.param(b"\x09rest", id="version 4"),
    ],
)
@pytest.mark.property("P10")
def test_what_is_no_vp8_frame_is_refused(frame: bytes) -> None:
    for cut in (Vp8Rule().split, Vp8Rule().part):
        with pytest.raises(FrameRejected) as refused:
            cut(frame)
        assert refused.value.reason == "malformed"


@given(st.binary(max_size=16), st.sampled_from([b"", b"\x10\0\0\x9d\x01\x2a"]))
def test_any_bytes_are_cut_in_two_or_refused(tail: bytes, start: bytes) -> None:
    data = start + tail
    try:
        clear, rest = Vp8Rule().part(data)
    except FrameRejected:
        return
    assert clear + rest == data
    assert len(clear) == clear_size(data) == (10 if is_key_frame(data) else 1)
    assert rest


@pytest.mark.property("P10")
@pytest.mark.parametrize("codec", ["h265", "VP8", "", "vp9", "none"])
def test_a_codec_without_a_rule_is_refused(codec: str) -> None:
    assert codec not in RULES
    with pytest.raises(MediaError) as refused:
        rule_for(codec)
    assert refused.value.reason == "codec-refused"
    assert "vp8" in refused.value.hint
