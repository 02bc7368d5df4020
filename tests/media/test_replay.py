"""The replay window against a model that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.media.errors import FrameRejected
from dongled.media.replay import WINDOW, ReplayWindow


def offer(window: ReplayWindow, ctr: int) -> str:
    """``""`` when taken and committed, else the reason."""
    try:
        window.check(ctr)
    except FrameRejected as refused:
        return refused.reason
    window.commit(ctr)
    return ""


@pytest.mark.property("P11")
@given(st.lists(st.one_of(st.integers(0, 2500), st.integers(1000, 1100), st.integers(0, 2**64 - 1))))
def test_as_a_list_of_everything_seen_would_have_it(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for ctr in counters:
        newest = max(seen, default=-1)
        expected = "too-old" if newest - ctr >= 1024 else "replay" if ctr in seen else ""
        assert offer(window, ctr) == expected
        if not expected:
            seen.add(ctr)


@pytest.mark.property("P11")
def test_edges() -> None:
    window = ReplayWindow()
    assert offer(window, 0) == ""
    assert offer(window, 0) == "replay"
    assert offer(window, WINDOW) == ""
    assert offer(window, 0) == "too-old"
    assert offer(window, 1) == ""
    assert offer(window, 1) == "replay"
    assert offer(window, 2**64 - 1) == ""
    assert offer(window, 2**64 - WINDOW) == ""
    assert offer(window, 2**64 - WINDOW - 1) == "too-old"
    assert offer(window, WINDOW) == "too-old"


@pytest.mark.property("P11")
def test_checking_uses_nothing_up() -> None:
    window = ReplayWindow()
    for _ in range(3):
        window.check(5)
        window.check(2**63)
    assert window.highest == -1
    assert offer(window, 5) == ""
