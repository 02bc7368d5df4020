"""The way in, without a network: nothing unopened passes, nothing shows after a hole, keys may come late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dongled.media.api import EncodedSink, Picture, PictureSink
from dongled.media.decoder import Vp8Decoder
from dongled.media.encoder import Vp8Encoder
from dongled.media.errors import MediaError
from dongled.media.frames import FrameOpener
from dongled.media.held import MAX_HELD
from dongled.media.inbound import QUEUE, InboundStats, InboundStream
from dongled.media.jitter import ReceivedFrame
from support import moving
from support.frames import Generation, context, sealer
from support.moving import Kept


@dataclass
class KeptFrames:
    """An encoded sink that keeps what it gets; ``wants`` is what it answers."""

    frames: list[tuple[bytes, float, bool]] = field(default_factory=list)
    wants: bool = False
    closed: int = 0

    def write(self, data: bytes, timestamp: float, keyframe: bool) -> bool:
        self.frames.append((data, timestamp, keyframe))
        return self.wants

    def close(self) -> None:
        self.closed += 1


def encoded(count: int, keyframes: tuple[int, ...] = ()) -> list[bytes]:
    encoder = Vp8Encoder(bitrate=500_000, fps=30)
    return [
        encoder.encode(Picture(moving.make(n), n, n / 30), keyframe=n in keyframes)[0] for n in range(count)
    ]


class Bench:
    """A stream with both kinds of sink and a clock in the test's hand."""

    def __init__(
        self,
        *generations: Generation,
        encrypted: bool = True,
        pictures: list[PictureSink] | None = None,
        frames: list[EncodedSink] | None = None,
    ) -> None:
        self.now = 10.0
        self.asked = 0
        self.faults: list[MediaError] = []
        self.kept = Kept()
        self.frames = KeptFrames()
        self.stream = InboundStream(
            context(),
            [self.kept] if pictures is None else pictures,
            encoded_sinks=[self.frames] if frames is None else frames,
            encrypted=encrypted,
            on_fault=self.faults.append,
            clock=lambda: self.now,
        )
        self.stream.attach(self.ask)
        for generation in generations:
            self.install(generation)

    def ask(self) -> None:
        self.asked += 1

    def install(self, generation: Generation) -> None:
        self.stream.install(generation.kid, generation.base_key, generation.verify_key, generation.suite)

    def receive(self, *wires: bytes, gap: bool = False) -> None:
        for number, wire in enumerate(wires):
            self.stream.receive(ReceivedFrame(wire, 3000 * number, gap and number == 0))

    def end(self) -> InboundStats:
        """What had come of it once everything was dealt with."""
        self.stream.close()
        return self.stream.stats()

    @property
    def numbers(self) -> list[int]:
        return [moving.number_of(moving.luma_of(picture.frame)) for picture in self.kept.pictures]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.0005)


def settled(bench: Bench) -> InboundStats:
    """The stream's counters once every frame that it received shows in them."""

    def shown() -> bool:
        stats = bench.stream.stats()
        dealt_with = stats.decoded + stats.frames_failed + sum(stats.skipped.values()) + stats.held
        return stats.frames_received == dealt_with

    until(shown)
    return bench.stream.stats()


def test_sealed_frames_come_out_as_pictures_and_as_they_were_encoded() -> None:
    generation = Generation()
    frames = encoded(10)
    seal = sealer(generation).seal
    bench = Bench(generation)
    bench.receive(*[seal(frame) for frame in frames])
    stats = bench.end()
    assert bench.numbers == list(range(10))
    assert min(moving.psnr(picture.frame) for picture in bench.kept.pictures) > 30
    assert [picture.sequence for picture in bench.kept.pictures] == list(range(10))
    assert {picture.captured_at for picture in bench.kept.pictures} == {10.0}
    assert [data for data, _, _ in bench.frames.frames] == frames
    assert [keyframe for _, _, keyframe in bench.frames.frames] == [True] + [False] * 9
    assert (stats.frames_received, stats.frames_opened, stats.decoded, stats.gaps) == (10, 10, 10, 0)
    assert (stats.frames_failed, stats.skipped, stats.last) == (0, {}, (1, 9))
    assert (stats.first_opened_at, stats.first_frame_at) == (10.0, 10.0)
    assert bench.asked == 0
    assert bench.kept.closed
    assert bench.frames.closed == 1


def test_without_a_key_no_frame_passes() -> None:
    seal = sealer(Generation()).seal
    bench = Bench()
    bench.receive(*[seal(frame) for frame in encoded(5)])
    stats = bench.end()
    assert (bench.kept.pictures, bench.frames.frames) == ([], [])
    assert (stats.frames_opened, stats.held, stats.decoded) == (0, 5, 0)
    assert bench.asked == 0, "a viewer without a key must not flood the publisher"


def test_plain_frames_do_not_pass_an_encrypted_stream() -> None:
    bench = Bench(Generation())
    bench.receive(*encoded(5))
    stats = bench.end()
    assert (bench.kept.pictures, bench.frames.frames) == ([], [])
    assert stats.frames_failed + stats.held == 5


def test_sealed_frames_show_nothing_in_a_plain_stream() -> None:
    seal = sealer(Generation()).seal
    bench = Bench(encrypted=False)
    bench.receive(*[seal(frame) for frame in encoded(5)])
    bench.end()
    assert all(moving.psnr(picture.frame) < 20 for picture in bench.kept.pictures)


def test_a_plain_stream_shows_plain_frames_and_takes_no_key() -> None:
    bench = Bench(encrypted=False)
    with pytest.raises(MediaError) as caught:
        bench.install(Generation())
    assert caught.value.reason == "plain-stream"
    bench.stream.forget(None)
    bench.receive(*encoded(5))
    assert bench.end().last is None
    assert bench.numbers == list(range(5))


def test_a_key_that_comes_late_shows_what_was_held_in_order() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(20)]
    bench = Bench()
    bench.receive(*wires[:15])
    bench.install(generation)
    bench.receive(*wires[15:])
    stats = bench.end()
    assert bench.numbers == list(range(20))
    assert (stats.held, stats.gaps, stats.skipped) == (0, 0, {})


def test_a_frame_before_the_news_of_its_key_does_not_overtake_what_was_held() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(8)]
    bench = Bench()
    bench.receive(*wires[:5])
    assert settled(bench).held == 5
    with bench.stream._condition:  # the stream's thread looks at nothing before both have come
        bench.receive(wires[5])
        bench.install(generation)
    bench.receive(*wires[6:])
    stats = bench.end()
    assert bench.numbers == list(range(8))
    assert (stats.gaps, stats.skipped) == (0, {})


def test_a_key_that_comes_between_looking_for_held_frames_and_opening_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(8)]
    bench = Bench()
    bench.receive(*wires[:5])
    assert settled(bench).held == 5
    installing = threading.Thread(target=bench.install, args=(generation,))
    kids = vars(FrameOpener)["kids"].fget

    def interrupted(opener: FrameOpener) -> list[int]:
        found: list[int] = kids(opener)
        if installing.ident is None:
            installing.start()
            installing.join(0.1)
        return found

    monkeypatch.setattr(FrameOpener, "kids", property(interrupted))
    bench.receive(wires[5])
    until(lambda: installing.ident is not None)
    installing.join()
    bench.receive(*wires[6:])
    stats = bench.end()
    assert bench.numbers == list(range(8))
    assert (stats.gaps, stats.skipped) == (0, {})


def test_at_most_64_frames_are_held() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(MAX_HELD + 6, (10,))]
    bench = Bench()
    bench.receive(*wires)
    assert settled(bench).held == MAX_HELD
    bench.install(generation)
    stats = bench.end()
    assert stats.skipped == {"held-too-long": 6, "no-keyframe": 4}
    assert bench.numbers == list(range(10, MAX_HELD + 6))


def test_a_new_generation_follows_without_loss_or_gap() -> None:
    one, two = Generation(kid=1), Generation(kid=2)
    frames = encoded(20, (10,))
    first, second = sealer(one).seal, sealer(two).seal
    bench = Bench(one)
    bench.receive(*[first(frame) for frame in frames[:10]], *[second(frame) for frame in frames[10:]])
    bench.install(two)
    stats = bench.end()
    assert bench.numbers == list(range(20))
    assert (stats.gaps, stats.frames_failed, stats.last) == (0, 0, (2, 9))


@pytest.mark.parametrize("renumbered", [True, False], ids=["hidden-by-the-sfu", "seen-by-rtp"])
def test_after_a_lost_frame_nothing_is_shown_until_a_key_frame(renumbered: bool) -> None:
    """The SFU may drop what it likes and renumber the rest: the authenticated counter tells."""
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(20, (12,))]
    bench = Bench(generation)
    bench.receive(*wires[:5])
    bench.receive(*wires[6:], gap=not renumbered)
    stats = bench.end()
    assert bench.numbers == [0, 1, 2, 3, 4, *range(12, 20)]
    assert (stats.gaps, stats.skipped, stats.frames_opened) == (1, {"no-keyframe": 6}, 19)
    assert bench.asked == 1


def test_in_a_plain_stream_rtp_tells_of_the_gap() -> None:
    frames = encoded(10, (7,))
    bench = Bench(encrypted=False)
    bench.receive(*frames[:3])
    bench.receive(*frames[4:], gap=True)
    assert bench.end().gaps == 1
    assert bench.numbers == [0, 1, 2, 7, 8, 9]


def test_a_frame_out_of_order_is_not_shown() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(6, (3,))]
    bench = Bench(generation)
    bench.receive(wires[0], wires[1], wires[3], wires[2], wires[4])
    stats = bench.end()
    assert bench.numbers == [0, 1, 3, 4]
    assert stats.skipped == {"late": 1}


def test_a_replayed_frame_is_refused_and_the_stream_goes_on() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(4)]
    bench = Bench(generation)
    bench.receive(wires[0], wires[1], wires[0], wires[1], wires[2], wires[3])
    stats = bench.end()
    assert stats.failed == {"replay": 2}
    assert bench.numbers == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "spoil", [lambda wire: wire[:-1] + bytes([wire[-1] ^ 1]), lambda wire: wire[:40], lambda wire: b""]
)
def test_a_spoilt_frame_is_dropped_counted_and_a_key_frame_asked_for(
    spoil: Callable[[bytes], bytes],
) -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(6, (4,))]
    bench = Bench(generation)
    bench.receive(wires[0], spoil(wires[1]), *wires[2:])
    stats = bench.end()
    assert stats.frames_failed == 1
    assert bench.numbers == [0, 4, 5]
    assert bench.asked == 1


def test_frames_of_another_key_under_the_same_number_do_not_pass() -> None:
    seal = sealer(Generation(kid=1)).seal
    bench = Bench(Generation(kid=1))
    bench.receive(*[seal(frame) for frame in encoded(5)])
    assert bench.end().failed == {"tag": 5}
    assert (bench.kept.pictures, bench.frames.frames) == ([], [])


def test_forgotten_keys_open_nothing_more() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    bench = Bench(generation)
    bench.stream.forget(None)
    bench.receive(*[seal(frame) for frame in encoded(5)])
    bench.end()
    assert (bench.kept.pictures, bench.frames.frames) == ([], [])


def test_forgetting_old_keys_lets_go_of_frames_held_for_them() -> None:
    seal = sealer(Generation(kid=1)).seal
    bench = Bench()
    bench.receive(*[seal(frame) for frame in encoded(5)])
    bench.stream.forget(2)
    stats = bench.end()
    assert stats.held == 0
    assert stats.skipped.get("held-too-long", 0) + stats.frames_failed == 5


def test_key_frames_are_asked_for_once_a_second_while_they_are_needed() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = [seal(frame) for frame in encoded(40, (35,))]
    bench = Bench(generation)
    bench.receive(wires[0])
    settled(bench)
    asked = []
    for wire in wires[2:]:
        bench.now += 0.125
        bench.receive(wire)
        settled(bench)
        asked.append(bench.asked)
    assert asked == [1] * 8 + [2] * 8 + [3] * 8 + [4] * 8 + [5] * 6
    assert bench.end().keyframe_requests == 5


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_decoder_that_falls_behind_drops_what_waits_and_goes_on_at_a_key_frame(encrypted: bool) -> None:
    generation = Generation()
    seal = sealer(generation).seal
    wires = encoded(QUEUE + 10, (QUEUE + 6,))
    if encrypted:
        wires = [seal(frame) for frame in wires]
    entered, released = threading.Event(), threading.Event()

    class Stuck(Kept):
        def write(self, picture: Picture) -> None:
            entered.set()
            released.wait(60)
            super().write(picture)

    stuck = Stuck()
    bench = Bench(*[generation] * encrypted, pictures=[stuck], encrypted=encrypted)
    bench.receive(wires[0])
    assert entered.wait(30)
    bench.receive(*wires[1:])
    released.set()
    stats = bench.end()
    numbers = [moving.number_of(moving.luma_of(picture.frame)) for picture in stuck.pictures]
    assert numbers == [0, QUEUE + 6, QUEUE + 7, QUEUE + 8, QUEUE + 9]
    assert stats.skipped["queue-full"] == QUEUE
    assert bench.asked == 1


def test_without_picture_sinks_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Vp8Decoder, "decode")
    generation = Generation()
    seal = sealer(generation).seal
    bench = Bench(generation, pictures=[])
    bench.receive(*[seal(frame) for frame in encoded(3)])
    assert bench.end().decoded == 0
    assert len(bench.frames.frames) == 3


def test_a_frame_that_the_decoder_refuses_asks_for_a_key_frame() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    frames = encoded(6, (4,))
    frames[1] = frames[1][:3]
    bench = Bench(generation)
    bench.receive(*[seal(frame) for frame in frames])
    stats = bench.end()
    assert bench.numbers == [0, 4, 5]
    assert stats.skipped == {"decoder-refused": 1, "no-keyframe": 2}
    assert bench.asked == 1


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MediaError("output-closed", "gone")]
)
def test_a_sink_that_fails_is_closed_and_the_others_go_on(error: Exception) -> None:
    class Full(KeptFrames):
        def write(self, data: bytes, timestamp: float, keyframe: bool) -> bool:
            super().write(data, timestamp, keyframe)
            raise error

    generation = Generation()
    seal = sealer(generation).seal
    full, other = Full(), KeptFrames()
    bench = Bench(generation, frames=[full, other])
    bench.receive(*[seal(frame) for frame in encoded(4)])
    bench.end()
    assert (len(full.frames), full.closed, len(other.frames), other.closed) == (1, 1, 4, 1)
    assert bench.numbers == [0, 1, 2, 3]
    assert [fault.reason for fault in bench.faults] in (["output-failed"], ["output-closed"])


def test_a_sink_that_needs_a_key_frame_gets_one_asked_for() -> None:
    generation = Generation()
    seal = sealer(generation).seal
    bench = Bench(generation, frames=[KeptFrames(wants=True)])
    bench.receive(*[seal(frame) for frame in encoded(4)])
    bench.end()
    assert bench.asked == 1


def test_timestamps_follow_the_sender_across_the_wrap_but_not_to_absurdity() -> None:
    frames = encoded(5)
    bench = Bench(encrypted=False)
    for frame, rtp, at in zip(
        frames,
        (0xFFFFFFFF - 2999, 0, 3000, 0x40000000, 0x40000000 - 90_000),
        (0.0, 0.04, 0.06, 0.1, 0.2),
        strict=True,
    ):
        bench.now = 10.0 + at
        bench.stream.receive(ReceivedFrame(frame, rtp, False))
    bench.end()
    seconds = [timestamp for _, timestamp, _ in bench.frames.frames]
    assert seconds == pytest.approx([0, 1 / 30, 2 / 30, 2 / 30 + 0.04, 2 / 30 + 0.14])


def test_a_codec_without_a_rule_is_refused() -> None:
    with pytest.raises(MediaError) as caught:
        InboundStream(context(codec="av1"), [], encrypted=False)
    assert caught.value.reason == "codec-refused"
