"""One slot: the latest wins, errors reach the reader, and closing leaves no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dongled.capture.errors import CaptureError
from dongled.capture.newest import Newest, Reader


def test_a_slow_reader_gets_the_latest_alone() -> None:
    slot: Newest[int] = Newest()
    for n in range(100):
        slot.put(n)
    assert slot.take(0) == 99
    assert slot.take(0) is None
    assert slot.replaced == 99


def test_taking_waits_for_what_comes() -> None:
    slot: Newest[int] = Newest()
    taken: list[int | None] = []
    reader = threading.Thread(target=lambda: taken.append(slot.take(10)))
    reader.start()
    slot.put(5)
    reader.join(10)
    assert taken == [5]


def test_an_error_comes_after_the_last_picture_and_stays() -> None:
    slot: Newest[int] = Newest()
    slot.put(1)
    slot.fail(CaptureError("camera-gone", "unplugged", "plug it in"))
    slot.put(2)
    assert slot.take(0) == 1
    for _ in range(2):
        with pytest.raises(CaptureError, match="unplugged") as raised:
            slot.take(0)
        assert (raised.value.reason, raised.value.hint) == ("camera-gone", "plug it in")


def test_close_wins_over_everything() -> None:
    slot: Newest[int] = Newest()
    slot.put(1)
    slot.fail(CaptureError("camera-gone", "unplugged"))
    slot.close()
    with pytest.raises(CaptureError) as raised:
        slot.take(10)
    assert raised.value.reason == "closed"


def test_latest_wins_under_a_fast_producer_and_memory_stays_bounded() -> None:
    produced = threading.Event()

    def work(put: Callable[[int], None], stopping: threading.Event) -> None:
        for n in range(10_000):
            put(n)
        produced.set()
        stopping.wait()

    reader: Reader[int] = Reader("producer", work)
    reader.start()
    seen = []
    while not produced.is_set():
        item = reader.take(0.01)
        if item is not None:
            seen.append(item)
    last = reader.take(0)
    seen += [] if last is None else [last]
    assert seen == sorted(set(seen))
    assert seen[-1] == 9999
    assert reader.replaced == 10_000 - len(seen)
    assert reader.close()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CaptureError("camera-stalled", "no picture"), "camera-stalled"),
        (ZeroDivisionError("x"), "source-failed"),
    ],
)
def test_what_the_thread_raises_reaches_the_reader(failure: Exception, reason: str) -> None:
    def work(put: Callable[[int], None], stopping: threading.Event) -> None:
        raise failure

    reader: Reader[int] = Reader("broken", work)
    reader.start()
    with pytest.raises(CaptureError) as raised:
        reader.take(10)
    assert raised.value.reason == reason
    assert reader.close()


def test_a_thread_that_returns_has_ended() -> None:
    reader: Reader[int] = Reader("short", lambda put, stopping: put(1))
    reader.start()
    assert reader.take(10) == 1
    with pytest.raises(CaptureError) as raised:
        reader.take(10)
    assert raised.value.reason == "ended"


def test_close_is_harmless_twice_and_before_the_start() -> None:
    reader: Reader[int] = Reader("idle", lambda put, stopping: None)
    assert reader.close()
    assert reader.close()


def test_close_tells_of_a_thread_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dongled.capture.newest.JOIN_SECONDS", 0.05)
    released = threading.Event()

    def work(put: Callable[[int], None], stopping: threading.Event) -> None:
        released.wait(10)

    reader: Reader[int] = Reader("hung driver", work)
    reader.start()
    assert not reader.close()
    released.set()
    assert reader.close()
