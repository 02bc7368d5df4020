"""How long frames take, stage by stage, as the streams tell it."""

from __future__ import annotations

import queue

import pytest

from dongled.media.api import Picture
from dongled.media.encoder import Vp8Encoder
from dongled.media.inbound import InboundStream
from dongled.media.jitter import ReceivedFrame
from dongled.media.outbound import OutboundStream
from dongled.media.stages import Stages
from support import moving
from support.frames import Generation, context, sealer
from support.moving import Kept


def test_only_the_last_frames_count() -> None:
    stages = Stages()
    assert stages.read() == {}
    stages.add("encode", 1000.0)
    for _ in range(64):
        stages.add("encode", 0.25)
    stages.add("seal", 0.5)
    assert stages.read() == {"encode": 0.25, "seal": 0.5}


class Ticks:
    """A clock that goes on by a second each time somebody looks."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class OneSource:
    width, height, fps = 320, 192, 30

    def __init__(self, picture: Picture) -> None:
        self._pictures: queue.Queue[Picture] = queue.Queue()
        self._pictures.put(picture)

    def start(self) -> None: ...

    def read(self, timeout: float) -> Picture | None:
        try:
            return self._pictures.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None: ...


def test_a_sent_frame_is_timed_from_capture_to_the_packetizer() -> None:
    clock, ready = Ticks(), queue.Queue[None]()
    source = OneSource(Picture(moving.make(0), 0, captured_at=95.0))
    stream = OutboundStream(source, context(), bitrate=500_000, encrypted=True, clock=clock)
    generation = Generation()
    stream.use_key(generation.kid, generation.base_key, generation.signing_key, generation.suite)
    stream.attach(lambda: ready.put(None))
    stream.start()
    try:
        ready.get(timeout=20)
        clock.now += 40.0
        assert stream.take() is not None
        spent = stream.stats().stages
    finally:
        stream.stop()
    assert list(spent) == ["capture", "encode", "seal", "send"]
    # One look before encoding at whether a key frame is due; then one before and after each stage.
    assert spent == pytest.approx({"capture": 7.0, "encode": 1.0, "seal": 1.0, "send": 41.0})


def test_a_received_frame_is_timed_from_arrival_to_its_picture() -> None:
    generation, clock, kept = Generation(), Ticks(), Kept()
    frame = Vp8Encoder(bitrate=500_000, fps=30).encode(Picture(moving.make(0), 0, 0.0), keyframe=True)[0]
    stream = InboundStream(context(), [kept], encrypted=True, clock=clock)
    stream.receive(ReceivedFrame(sealer(generation).seal(frame), 0, False))
    clock.now += 40.0
    stream.install(generation.kid, generation.base_key, generation.verify_key, generation.suite)
    stream.close()
    spent = stream.stats().stages
    assert len(kept.pictures) == 1
    assert list(spent) == ["receive", "open", "decode"]
    assert spent["receive"] >= 41.0
    assert spent["open"] == spent["decode"] == 1.0
