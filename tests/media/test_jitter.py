"""The jitter buffer on a clock of its own: loss, reordering, duplicates, wrap-around, giving up."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.media.jitter import CAPACITY, NACK_BATCH, PATIENCE, JitterBuffer, ReceivedFrame, RtpPiece


def packets(*sizes: int, first: int = 100, keyframes: tuple[int, ...] = (0,)) -> list[RtpPiece]:
    """Frames of so many packets each; the data of packet ``n`` is ``n`` as four bytes."""
    pieces: list[RtpPiece] = []
    for frame, size in enumerate(sizes):
        for at in range(size):
            number = len(pieces)
            pieces.append(
                RtpPiece(
                    sequence=(first + number) & 0xFFFF,
                    timestamp=3000 * frame & 0xFFFFFFFF,
                    marker=at == size - 1,
                    starts=at == 0,
                    keyframe=at == 0 and frame in keyframes,
                    data=number.to_bytes(4, "big"),
                )
            )
    return pieces


def whole(pieces: list[RtpPiece]) -> list[bytes]:
    """The frames that the packets make when nothing is lost."""
    frames: dict[int, bytes] = {}
    for piece in pieces:
        frames[piece.timestamp] = frames.get(piece.timestamp, b"") + piece.data
    return list(frames.values())


def feed(buffer: JitterBuffer, pieces: list[RtpPiece], now: float = 0.0) -> list[ReceivedFrame]:
    frames = []
    for piece in pieces:
        buffer.add(piece, now)
        frames += buffer.poll(now)[0]
    return frames


def test_a_frame_leaves_with_its_last_packet_and_not_with_the_next_frame() -> None:
    buffer = JitterBuffer()
    first, second, third = packets(3)
    assert feed(buffer, [first, second]) == []
    assert feed(buffer, [third]) == [ReceivedFrame(b"".join(whole([first, second, third])), 0, False)]
    assert buffer.wake_at() is None


def test_a_late_packet_frees_every_frame_behind_it() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 2, 1, 1, keyframes=())
    missing = pieces.pop(1)
    assert len(feed(buffer, pieces)) == 1
    assert [f.data for f in feed(buffer, [missing])] == whole(packets(1, 2, 1, 1))[1:]
    assert buffer.given_up == 0


def test_the_sequence_number_wraps_around() -> None:
    buffer = JitterBuffer()
    pieces = packets(2, 2, 2, 2, first=0xFFFD)
    pieces[3], pieces[2] = pieces[2], pieces[3]
    frames = feed(buffer, pieces)
    assert [f.data for f in frames] == whole(packets(2, 2, 2, 2))
    assert not any(f.gap for f in frames)


def test_a_loss_across_the_wrap_is_asked_for_by_its_16_bit_number() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 1, 1, 1, 1, first=0xFFFE, keyframes=())
    buffer.add(pieces[0], 0.0)
    buffer.add(pieces[4], 0.0)
    assert buffer.poll(0.0)[1] == [0xFFFF, 0, 1]


def test_duplicates_and_stragglers_are_counted_and_dropped() -> None:
    buffer = JitterBuffer()
    pieces = packets(2, 2)
    frames = feed(buffer, [pieces[0], pieces[0], pieces[1], pieces[1], *pieces[2:]])
    assert [f.data for f in frames] == whole(pieces)
    assert (buffer.duplicates, buffer.late) == (1, 1)


def test_a_frame_without_its_marker_ends_where_the_next_begins() -> None:
    buffer = JitterBuffer()
    pieces = [replace(piece, marker=False) for piece in packets(2, 2, 1)]
    assert [f.data for f in feed(buffer, pieces)] == whole(pieces)[:2]


def test_padding_without_data_is_no_frame_and_no_gap() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 1, 1, 1)
    pieces[1] = replace(pieces[1], timestamp=0, marker=False, starts=False, data=b"")
    frames = feed(buffer, pieces)
    assert [f.data for f in frames] == [pieces[n].data for n in (0, 2, 3)]
    assert not any(f.gap for f in frames)


def test_joining_in_the_middle_of_a_frame_waits_for_the_next_and_says_so() -> None:
    buffer = JitterBuffer()
    frames = feed(buffer, packets(3, 1)[1:])
    assert [(f.data, f.gap) for f in frames] == [(packets(3, 1)[3].data, True)]


def test_what_is_missing_is_asked_for_at_once_then_after_a_round_trip() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 1, 1, keyframes=())
    buffer.add(pieces[0], 1.0)
    buffer.add(pieces[2], 1.0)
    assert buffer.poll(1.0)[1] == [101]
    assert buffer.poll(1.01)[1] == []
    due = buffer.wake_at()
    assert due is not None
    assert 1.01 < due < 1.1
    assert buffer.poll(due)[1] == [101]
    assert buffer.asked_again == 1


def test_a_short_round_trip_is_learnt_and_shortens_the_next_question() -> None:
    buffer = JitterBuffer()
    now = 0.0
    pieces = packets(*[1] * 81, keyframes=())
    for at in range(0, 80, 2):
        feed(buffer, [pieces[at]], now)
        buffer.add(pieces[at + 2], now)
        buffer.poll(now)
        now += 0.005
        buffer.add(pieces[at + 1], now)
        buffer.poll(now)
    buffer.add(replace(pieces[0], sequence=100 + 83, timestamp=99), now)
    buffer.poll(now)
    due = buffer.wake_at()
    assert due is not None
    assert due - now == pytest.approx(0.01, abs=0.003)


def test_after_250_ms_a_loss_is_given_up_and_the_next_frame_says_so() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 2, 1, keyframes=())
    lost = pieces.pop(2)
    assert len(feed(buffer, pieces, 5.0)) == 1
    assert buffer.poll(5.0 + PATIENCE - 0.001)[0] == []
    frames, nacks = buffer.poll(5.0 + PATIENCE)
    assert [(f.data, f.gap) for f in frames] == [(pieces[-1].data, True)]
    assert nacks == []
    assert buffer.wake_at() is None
    assert buffer.given_up == 1
    assert feed(buffer, [lost], 5.3) == []
    assert buffer.late == 1


def test_the_timer_wakes_for_giving_up_even_between_questions() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 1, 1, keyframes=())
    buffer.add(pieces[0], 0.0)
    buffer.add(pieces[2], 0.0)
    now, woken = 0.0, 0
    frames = buffer.poll(now)[0]
    while (due := buffer.wake_at()) is not None:
        assert due > now or woken == 0
        now = due
        frames += buffer.poll(now)[0]
        woken += 1
    assert now == pytest.approx(PATIENCE)
    assert [f.data for f in frames] == [pieces[0].data, pieces[2].data]


def test_a_whole_key_frame_waits_for_nothing_before_it() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 2, 1, 2, 1, keyframes=(0, 3))
    del pieces[1]
    frames = feed(buffer, pieces)
    assert [(f.data, f.gap) for f in frames] == [
        (pieces[0].data, False),
        (pieces[3].data + pieces[4].data, True),
        (pieces[5].data, False),
    ]


def test_frames_before_the_hole_are_not_lost_to_the_jump() -> None:
    buffer = JitterBuffer()
    pieces = packets(1, 1, 1, 1, keyframes=(0, 3))
    for piece in (pieces[0], pieces[1], pieces[3]):
        buffer.add(piece, 0.0)
    assert [f.data for f in buffer.poll(0.0)[0]] == [pieces[n].data for n in (0, 1, 3)]


def test_an_endless_frame_does_not_grow_without_bound() -> None:
    buffer = JitterBuffer(capacity=16)
    template = packets(1)[0]
    for number in range(200):
        buffer.add(replace(template, sequence=number, marker=False, starts=number == 0), 0.0)
        buffer.poll(0.0)
        assert len(buffer._pieces) <= 17


def test_a_loss_of_very_many_asks_for_a_bounded_number() -> None:
    buffer = JitterBuffer()
    template = packets(1, keyframes=())[0]
    buffer.add(template, 0.0)
    buffer.add(replace(template, sequence=100 + CAPACITY - 1, timestamp=1), 0.0)
    assert len(buffer.poll(0.0)[1]) == NACK_BATCH


def test_a_stream_that_starts_over_elsewhere_is_followed_with_a_gap() -> None:
    buffer = JitterBuffer()
    assert len(feed(buffer, packets(1, 1))) == 2
    frames = feed(buffer, packets(1, 1, first=40_000))
    assert [f.gap for f in frames] == [True, False]


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=20)


@given(sizes=sizes, first=st.integers(0, 0xFFFF), seed=st.integers())
def test_any_order_within_patience_gives_every_frame_in_order(
    sizes: list[int], first: int, seed: int
) -> None:
    pieces = packets(*sizes, first=first, keyframes=())
    shuffled = [pieces[0], *random.Random(seed).sample(pieces[1:], len(pieces) - 1)]
    frames = feed(JitterBuffer(), shuffled)
    assert [f.data for f in frames] == whole(pieces)
    assert not any(f.gap for f in frames)


@given(sizes=sizes, lost=st.sets(st.integers(0, 80)), seed=st.integers())
def test_whatever_is_lost_frames_are_whole_in_order_and_marked_after_a_hole(
    sizes: list[int], lost: set[int], seed: int
) -> None:
    pieces = packets(*sizes, keyframes=(0, 5, 10))
    chance = random.Random(seed)
    buffer = JitterBuffer()
    frames = []
    now = 0.0
    for number, piece in enumerate(pieces):
        if number not in lost:
            frames += feed(buffer, [piece] * chance.choice((1, 1, 2)), now)
            now += 0.001
    while (due := buffer.wake_at()) is not None:
        now = max(now, due)
        frames += buffer.poll(now)[0]
    assert now <= 1.0
    expected = whole(pieces)
    places = [expected.index(f.data) for f in frames]
    assert places == sorted(set(places))
    for (before, after), frame in zip(itertools.pairwise(places), frames[1:], strict=False):
        assert frame.gap or after == before + 1
    kept, at = [], 0
    for place, size in enumerate(sizes):
        if not lost & set(range(at, at + size)):
            kept.append(place)
        at += size
    # Nothing whole is held back: only a jump to a key frame may pass over whole frames.
    missed = set(kept) - set(places)
    keys = {5, 10} & set(places)
    assert all(any(place < key for key in keys) for place in missed - {0})
