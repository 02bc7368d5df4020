"""Frames ahead of their key: held, bounded, released in order, and accounted for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dongled.media.held import MAX_HELD, MAX_HELD_BYTES, HeldFrames


def test_released_in_the_order_they_came() -> None:
    held = HeldFrames[str]()
    for kid, frame in ((2, "a"), (3, "b"), (2, "c"), (1, "d")):
        assert held.hold(kid, frame, 10) == []
    assert held.release(2) == ["a", "c"]
    assert held.release(2) == []
    assert held.drop(below=1) == []
    assert held.drop(below=3) == ["d"]
    assert held.drop() == ["b"]
    assert len(held) == 0


def test_a_flood_pushes_out_the_oldest_and_says_so() -> None:
    held = HeldFrames[int]()
    dropped = [gone for number in range(1000) for gone in held.hold(number % 7, number, 100)]
    assert len(held) == MAX_HELD == 64
    assert dropped == list(range(1000 - 64))


def test_large_frames_are_bounded_by_bytes() -> None:
    held = HeldFrames[int]()
    size = MAX_HELD_BYTES // 2
    assert held.hold(1, 0, size) == []
    assert held.hold(1, 1, size) == []
    assert held.hold(1, 2, 1) == [0]
    assert held.release(1) == [1, 2]
    assert held.hold(1, 3, 2 * size) == []
    assert held.hold(1, 4, 2 * size + 1) == [3, 4]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["hold", "release", "drop"]))))
def test_every_frame_leaves_once(steps: list[tuple[int, str]]) -> None:
    held, left, entered = HeldFrames[int](), list[int](), 0
    for kid, step in steps:
        if step == "hold":
            left += held.hold(kid, entered, MAX_HELD_BYTES // 3)
            entered += 1
        else:
            left += held.release(kid) if step == "release" else held.drop(kid)
    left += held.drop()
    assert sorted(left) == list(range(entered))
