"""The way out, without a network: keys, key frames on request, bounded queues, faults."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator

import pytest

from dongled.media.api import Picture
from dongled.media.decoder import Vp8Decoder
from dongled.media.encoder import Vp8Encoder
from dongled.media.errors import MediaError
from dongled.media.frames import FrameOpener
from dongled.media.outbound import QUEUE, OutboundStream, WireFrame
from dongled.media.vp8 import is_key_frame
from support import moving
from support.frames import Generation, context, opener


class HandSource:
    """Gives a picture when a test says so; ``pictures.join()`` waits until it was dealt with."""

    width, height, fps = 320, 192, 30

    def __init__(self) -> None:
        self.pictures: queue.Queue[Picture | Exception] = queue.Queue()
        self.closed = threading.Event()
        self.started = False
        self._given = False

    def start(self) -> None:
        self.started = True

    def read(self, timeout: float) -> Picture | None:
        if self._given:
            self.pictures.task_done()
            self._given = False
        try:
            item = self.pictures.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        self._given = True
        return item

    def close(self) -> None:
        self.closed.set()


class Bench:
    """A stream, its source in the test's hand and its clock as well."""

    def __init__(self, *, encrypted: bool = True) -> None:
        self.now = 100.0
        self.woken = 0
        self.faults: queue.Queue[MediaError] = queue.Queue()
        self.source = HandSource()
        self.stream = OutboundStream(
            self.source,
            context(),
            bitrate=500_000,
            encrypted=encrypted,
            on_fault=self.faults.put,
            clock=lambda: self.now,
        )
        self._number = 0

    def wake(self) -> None:
        self.woken += 1

    def use(self, generation: Generation) -> None:
        self.stream.use_key(generation.kid, generation.base_key, generation.signing_key, generation.suite)

    def step(self, after: float = 1 / 30) -> None:
        """One picture, read and dealt with."""
        self.now += after
        self.source.pictures.put(Picture(moving.make(self._number), self._number, self.now))
        self._number += 1
        self.source.pictures.join()

    def sent(self, after: float = 1 / 30) -> WireFrame:
        """One picture, and the frame that it became."""
        self.step(after)
        frame = self.stream.take()
        assert frame is not None
        return frame


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.stream.start()
    made.stream.attach(made.wake)
    yield made
    made.stream.stop()
    assert made.source.closed.is_set()


def ctrs(receiver: FrameOpener, frames: list[WireFrame]) -> list[tuple[int, int]]:
    opened = [receiver.open(frame.data) for frame in frames]
    return [(frame.kid, frame.ctr) for frame in opened]


def test_frames_open_on_the_other_side_without_a_hole(bench: Bench) -> None:
    generation = Generation(kid=3)
    bench.use(generation)
    frames = [bench.sent() for _ in range(10)]
    assert ctrs(opener(generation), frames) == [(3, ctr) for ctr in range(10)]
    assert [frame.keyframe for frame in frames] == [True] + [False] * 9
    assert [b.timestamp - a.timestamp for a, b in itertools.pairwise(frames)] == [3000] * 9
    assert bench.stream.position == (3, 9)
    stats = bench.stream.stats()
    assert (stats.frames_captured, stats.frames_encoded, stats.frames_sealed, stats.frames_sent) == (10,) * 4
    assert stats.bytes == sum(len(frame.data) for frame in frames)
    assert stats.fps == pytest.approx(30, rel=0.01)
    assert bench.woken == 10


@pytest.mark.property("P1")
def test_nothing_leaves_before_the_first_key(bench: Bench) -> None:
    bench.step()
    assert bench.stream.take() is None
    assert (bench.stream.stats().frames_captured, bench.stream.stats().frames_encoded) == (1, 0)
    assert bench.stream.position is None


def test_nothing_is_encoded_for_nobody() -> None:
    bench = Bench()
    bench.use(Generation())
    bench.stream.start()
    bench.step()
    assert bench.stream.stats().frames_encoded == 0
    bench.stream.attach(bench.wake)
    assert bench.sent().keyframe
    bench.stream.detach(bench.wake)
    bench.step()
    assert bench.stream.stats().frames_encoded == 1
    bench.stream.stop()


def test_a_second_taker_is_not_cut_off_by_the_first_one_leaving(bench: Bench) -> None:
    bench.use(Generation())
    other = Bench()
    bench.stream.attach(other.wake)
    bench.stream.detach(bench.wake)
    assert bench.sent().keyframe
    assert other.woken == 1


def test_a_new_key_starts_with_a_key_frame_and_counts_from_zero(bench: Bench) -> None:
    one, two = Generation(kid=1), Generation(kid=2)
    bench.use(one)
    frames = [bench.sent() for _ in range(3)]
    bench.use(two)
    frames += [bench.sent() for _ in range(3)]
    assert ctrs(opener(one, two), frames) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert [frame.keyframe for frame in frames] == [True, False, False, True, False, False]


def test_a_key_that_comes_while_a_picture_is_encoded_seals_that_picture(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sealed with the old key once use_key returned, and no picture is lost for it."""
    one, two = Generation(kid=1), Generation(kid=2)
    bench.use(one)
    bench.sent()
    encode = Vp8Encoder.encode
    calls: list[bool] = []

    def interrupted(self: Vp8Encoder, picture: Picture, *, keyframe: bool) -> tuple[bytes, int]:
        calls.append(keyframe)
        if len(calls) == 1:
            bench.use(two)
        return encode(self, picture, keyframe=keyframe)

    monkeypatch.setattr(Vp8Encoder, "encode", interrupted)
    frame = bench.sent()
    assert calls == [False, True]
    assert ctrs(opener(one, two), [frame]) == [(2, 0)]
    assert frame.keyframe


@pytest.mark.property("P13")
def test_dropped_keys_stop_what_waits_and_what_is_being_encoded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.use(Generation())
    bench.step()
    encode = Vp8Encoder.encode

    def interrupted(self: Vp8Encoder, picture: Picture, *, keyframe: bool) -> tuple[bytes, int]:
        bench.stream.drop_keys()
        return encode(self, picture, keyframe=keyframe)

    monkeypatch.setattr(Vp8Encoder, "encode", interrupted)
    bench.step()
    assert bench.stream.take() is None
    bench.step()
    assert bench.stream.take() is None
    assert bench.stream.stats().drops == {"keys-dropped": 1}
    assert bench.stream.stats().frames_sealed == 1


def test_after_dropped_keys_a_new_one_starts_with_a_key_frame(bench: Bench) -> None:
    bench.use(Generation(kid=1))
    bench.sent()
    bench.stream.drop_keys()
    new = Generation(kid=2)
    bench.use(new)
    frame = bench.sent()
    assert frame.keyframe
    assert ctrs(opener(new), [frame]) == [(2, 0)]


def test_requests_force_one_key_frame_a_second(bench: Bench) -> None:
    bench.use(Generation())
    bench.sent()
    keyframes = []
    for _ in range(24):
        bench.stream.force_keyframe()
        keyframes.append(bench.sent(after=0.125).keyframe)
    assert [n for n, is_one in enumerate(keyframes) if is_one] == [0, 8, 16]


def test_a_request_too_soon_is_answered_later_not_forgotten(bench: Bench) -> None:
    bench.use(Generation())
    bench.sent()
    bench.stream.force_keyframe()
    assert bench.sent().keyframe
    bench.stream.force_keyframe()
    assert not bench.sent(after=0.5).keyframe
    assert bench.sent(after=0.5).keyframe
    assert not bench.sent(after=2.0).keyframe


def test_a_key_change_does_not_wait_for_the_second(bench: Bench) -> None:
    bench.use(Generation(kid=1))
    bench.stream.force_keyframe()
    bench.sent()
    bench.use(Generation(kid=2))
    assert bench.sent().keyframe


def test_a_full_queue_drops_pictures_before_they_are_encoded_so_nothing_is_missing(bench: Bench) -> None:
    generation = Generation()
    bench.use(generation)
    for _ in range(QUEUE + 5):
        bench.step()
    frames = []
    while (frame := bench.stream.take()) is not None:
        frames.append(frame)
    frames += [bench.sent() for _ in range(3)]
    assert len(frames) == QUEUE + 3
    assert bench.stream.stats().drops == {"queue-full": 5}
    assert ctrs(opener(generation), frames) == [(1, ctr) for ctr in range(QUEUE + 3)]
    receiver, decoder = opener(generation), Vp8Decoder()
    pictures = [decoder.decode(receiver.open(frame.data).data)[0] for frame in frames]
    assert min(moving.psnr(picture) for picture in pictures) > 30
    numbers = [moving.number_of(moving.luma_of(picture)) for picture in pictures]
    assert numbers == [*range(QUEUE), *range(QUEUE + 5, QUEUE + 8)]


def test_a_plain_stream_sends_frames_as_they_are_and_takes_no_key() -> None:
    bench = Bench(encrypted=False)
    bench.stream.start()
    bench.stream.attach(bench.wake)
    frame = bench.sent()
    assert is_key_frame(frame.data)
    assert frame.data[3:6] == b"\x9d\x01\x2a"
    with pytest.raises(MediaError) as caught:
        bench.use(Generation())
    assert caught.value.reason == "plain-stream"
    assert (bench.stream.position, bench.stream.stats().frames_sealed) == (None, 0)
    bench.stream.stop()


class SourceGone(Exception):
    reason, hint = "device-gone", "plug the camera in again"


def test_a_source_that_breaks_is_told_once_with_its_own_reason(bench: Bench) -> None:
    bench.source.pictures.put(SourceGone("no such device"))
    fault = bench.faults.get(timeout=30)
    assert (fault.reason, fault.hint, str(fault)) == (
        "device-gone",
        "plug the camera in again",
        "no such device",
    )
    assert bench.source.closed.wait(30)
    assert bench.faults.empty()


def test_a_source_that_does_not_open_raises_and_the_stream_stops() -> None:
    bench = Bench()

    def refuse() -> None:
        raise SourceGone("no such device")

    bench.source.start = refuse  # type: ignore[method-assign] # a fake that fails
    with pytest.raises(SourceGone):
        bench.stream.start()
    bench.stream.stop()


def test_keys_show_in_no_repr(bench: Bench) -> None:
    generation = Generation()
    bench.use(generation)
    shown = f"{bench.stream!r}{bench.stream.stats()!r}{bench.sent()!r}"
    for secret in (generation.base_key, generation.signing_key):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_while_nobody_may_have_a_picture_the_source_is_hardly_read_and_then_at_once(bench: Bench) -> None:
    for number in range(200):
        bench.source.pictures.put(Picture(moving.make(0), number, bench.now))
    began = time.monotonic()
    time.sleep(1.2)
    read = bench.stream.stats().frames_captured
    assert 1 <= read <= 2 + 2 * (time.monotonic() - began)
    bench.use(Generation(kid=3))
    bench.source.pictures.join()
    assert bench.stream.stats().frames_captured == 200
    # 200 pictures at two a second would have taken minutes.
    assert time.monotonic() - began < 60
    bench.stream.drop_keys()
    before = bench.stream.stats().frames_captured
    for number in range(200):
        bench.source.pictures.put(Picture(moving.make(0), number, bench.now))
    time.sleep(0.6)
    assert bench.stream.stats().frames_captured - before < 20
