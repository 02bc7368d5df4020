"""Frames that must get through: sealed, opened, switched, counted."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.media.errors import FrameRejected, MediaError
from dongled.media.frames import MAX_FRAME, FrameOpener, FrameSealer, OpenedFrame, Position
from dongled.media.keyring import KeyRefused, commit_base_key
from support import frames
from support.frames import Generation


@pytest.mark.parametrize("suite", [4, 5])
def test_libvpx_frames_come_out_as_they_went_in(suite: int) -> None:
    generation = Generation(suite=suite, kid=900)
    here, there = frames.sealer(generation), frames.opener(generation)
    encoded = list(frames.encoded_vp8())
    opened = [there.open(here.seal(frame)) for frame in encoded]
    assert [frame.data for frame in opened] == encoded
    assert [(frame.kid, frame.ctr) for frame in opened] == [(900, ctr) for ctr in range(len(encoded))]
    assert frames.decode_vp8([frame.data for frame in opened]) == len(encoded)


@settings(deadline=None)
@given(
    kid=st.integers(0, 2**64 - 1),
    suite=st.sampled_from([4, 5]),
    meeting=st.text(max_size=80),
    stream=st.text(max_size=80),
    session=st.binary(min_size=16, max_size=16),
    payload=st.binary(min_size=1, max_size=300),
    key=st.booleans(),
)
def test_whatever_the_stream_is_called(
    kid: int, suite: int, meeting: str, stream: str, session: bytes, payload: bytes, key: bool
) -> None:
    context = frames.context(meeting=meeting, stream=stream, session=session)
    generation = Generation(kid=kid, suite=suite)
    frame = frames.key_frame(payload) if key else frames.delta_frame(payload)
    wire = frames.sealer(generation, context).seal(frame)
    assert frames.opener(generation, of=context).open(wire) == OpenedFrame(frame, kid, 0)


def test_frames_may_arrive_in_any_order_within_the_window() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    wires = [here.seal(frames.delta_frame(b"%d" % number)) for number in range(1024)]
    assert [there.open(wire).ctr for wire in reversed(wires)] == list(reversed(range(1024)))


def test_position_tells_how_far_a_generation_got() -> None:
    context, first, second = frames.context(), Generation(kid=4), Generation(kid=9, suite=4)
    here, there = FrameSealer(context), FrameOpener(context)

    def commit(of: Generation) -> bytes:
        return commit_base_key(of.base_key, of.kid, context.session, of.verify_key)

    assert here.position is None
    assert there.newest is None
    here.use(first.kid, first.base_key, first.signing_key)
    assert here.position == Position(4, 0, commit(first))
    for generation in (first, second):
        there.install(generation.kid, generation.base_key, generation.verify_key, generation.suite)
    late = here.seal(frames.delta_frame())
    there.open(here.seal(frames.delta_frame()))
    assert here.position == Position(4, 2, commit(first))
    assert there.commit(4) == commit(first)
    assert there.newest == (4, 1)
    here.use(second.kid, second.base_key, second.signing_key, second.suite)
    there.open(here.seal(frames.key_frame()))
    there.open(late)
    assert here.position == Position(9, 1, commit(second))
    assert there.newest == (9, 0)
    assert there.kids == [4, 9]


def test_nothing_is_sealed_without_a_key() -> None:
    here = FrameSealer(frames.context())
    with pytest.raises(MediaError) as refused:
        here.seal(frames.key_frame())
    assert refused.value.reason == "no-key"


@pytest.mark.property("P13")
def test_stopped_means_no_key_and_no_frame() -> None:
    generation = Generation(kid=3)
    here = frames.sealer(generation)
    here.seal(frames.key_frame())
    here.stop()
    assert here.position is None
    with pytest.raises(MediaError) as refused:
        here.seal(frames.key_frame())
    assert refused.value.reason == "no-key"
    with pytest.raises(KeyRefused) as late:
        here.use(3, os.urandom(64), generation.signing_key)
    assert late.value.reason == "kid-order"


@pytest.mark.property("P11")
def test_kids_only_rise_and_a_refused_switch_changes_nothing() -> None:
    generation = Generation(kid=3)
    here, there = frames.sealer(generation), frames.opener(generation)
    for kid in (3, 2, 0):
        with pytest.raises(KeyRefused) as refused:
            here.use(kid, os.urandom(64), generation.signing_key)
        assert refused.value.reason == "kid-order"
    with pytest.raises(KeyRefused) as refused:
        here.use(4, generation.base_key, generation.signing_key)
    assert refused.value.reason == "key-used"
    opened = [there.open(here.seal(frames.key_frame())) for _ in range(3)]
    assert [(frame.kid, frame.ctr) for frame in opened] == [(3, 0), (3, 1), (3, 2)]


def test_size_limits() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    overhead = len(here.seal(frames.delta_frame(b"x"))) - 2
    largest = frames.delta_frame(bytes(MAX_FRAME - overhead - 1))
    wire = here.seal(largest)
    assert len(wire) == MAX_FRAME
    assert there.open(wire).data == largest
    with pytest.raises(MediaError) as refused:
        here.seal(largest + b"x")
    assert refused.value.reason == "too-large"
    with pytest.raises(FrameRejected) as dropped:
        there.open(wire + b"x")
    assert dropped.value.reason == "too-large"


def test_a_frame_costs_eighty_odd_bytes() -> None:
    here = frames.sealer(Generation(kid=300))
    frame = frames.delta_frame()
    assert len(here.seal(frame)) - len(frame) == 3 + 64 + 16


def test_a_session_id_has_sixteen_bytes() -> None:
    for made in (FrameSealer, FrameOpener):
        with pytest.raises(ValueError):
            made(frames.context(session=b"short"))


def test_no_key_or_picture_is_printed() -> None:
    generation = Generation()
    here, there = frames.sealer(generation), frames.opener(generation)
    opened = there.open(here.seal(frames.key_frame(b"picture of a patient")))
    printed = "".join(repr(thing) for thing in (here, there, opened, here.position, vars(here), vars(there)))
    for secret in (generation.base_key, generation.signing_key, b"picture of a patient"):
        assert secret.hex() not in printed
        assert repr(secret)[2:-1] not in printed
