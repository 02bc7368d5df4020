"""What the sinks write is read back by FFmpeg; readers that stall or go away hold up nobody."""

from __future__ import annotations

import os
import pty
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from dongled.media.api import Picture
from dongled.media.encoder import Vp8Encoder
from dongled.media.errors import MediaError
from dongled.media.sinks import LiveSink, MkvSink, NullSink, PngSink
from dongled.media.sinks.live import QUEUE
from dongled.media.sinks.matroska import MatroskaWriter
from support import moving


def encoded(count: int, keyframes: tuple[int, ...] = ()) -> list[tuple[bytes, float, bool]]:
    encoder = Vp8Encoder(bitrate=500_000, fps=30)
    return [
        (
            encoder.encode(Picture(moving.make(n), n, n / 30), keyframe=n in keyframes)[0],
            n / 30,
            n in (0, *keyframes),
        )
        for n in range(count)
    ]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def numbers(frames: list[av.VideoFrame]) -> list[int]:
    return [moving.number_of(moving.luma_of(frame)) for frame in frames]


# --- recording ---------------------------------------------------------------------------------------


def test_a_recording_holds_the_very_frames_at_their_times(tmp_path: Path) -> None:
    frames = encoded(90, (45,))
    sink = MkvSink(tmp_path / "a.mkv")
    assert [sink.write(*frame) for frame in frames] == [False] * 90
    sink.close()
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.format.name.startswith("matroska")
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [bytes(packet) for packet in packets] == [data for data, _, _ in frames]
        assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == [0, 45]
        assert [float((packet.pts or 0) * packet.time_base) for packet in packets] == pytest.approx(
            [seconds for _, seconds, _ in frames], abs=0.001
        )
        assert (container.duration or 0) / 1e6 == pytest.approx(90 / 30, abs=0.1)
    pictures = decoded(tmp_path / "a.mkv")
    assert numbers(pictures) == list(range(90))
    assert (pictures[0].width, pictures[0].height) == (320, 192)


def test_a_recording_is_for_its_owner_alone_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    MkvSink(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(MediaError) as caught:
        MkvSink(path)
    assert caught.value.reason == "output-exists"
    with pytest.raises(MediaError) as caught:
        MkvSink(tmp_path / "missing" / "a.mkv")
    assert caught.value.reason == "output-failed"


def test_a_recording_cut_off_without_warning_plays_up_to_the_last_second(tmp_path: Path) -> None:
    sink = MkvSink(tmp_path / "a.mkv")
    for frame in encoded(120):
        sink.write(*frame)
    sink._file.flush()
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "a.mkv").read_bytes())
    assert len(decoded(tmp_path / "cut.mkv")) >= 60
    sink.close()


def test_a_recording_begins_at_a_key_frame(tmp_path: Path) -> None:
    sink = MkvSink(tmp_path / "a.mkv")
    for frame in encoded(10, (6,))[3:]:
        sink.write(*frame)
    sink.close()
    assert numbers(decoded(tmp_path / "a.mkv")) == [6, 7, 8, 9]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        writer = MatroskaWriter(full, live=True)
        with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - the muxer's buffer decides which
            for frame in encoded(60):
                writer.write(*frame)
        writer.close()


# --- live --------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read_all(reading: int, into: bytearray) -> None:
    while chunk := os.read(reading, 65536):
        into += chunk


def test_a_reader_of_the_pipe_sees_every_frame(pipe: tuple[int, int], tmp_path: Path) -> None:
    reading, writing = pipe
    got = bytearray()
    reader = threading.Thread(target=read_all, args=(reading, got))
    reader.start()
    sink = LiveSink(writing)
    for frame in encoded(60, (30,)):
        assert sink.write(*frame) is False
    sink.close()
    os.close(writing)
    reader.join()
    (tmp_path / "live.mkv").write_bytes(got)
    assert numbers(decoded(tmp_path / "live.mkv")) == list(range(60))


def test_a_frame_is_in_the_pipe_when_the_next_has_come(pipe: tuple[int, int]) -> None:
    """A player must not wait for a cluster of seconds: it sees a frame one frame later."""
    reading, writing = pipe
    sink = LiveSink(writing)
    frames = encoded(4)
    for frame in frames:
        sink.write(*frame)
    got = b""
    while frames[2][0] not in got:
        got += os.read(reading, 65536)
    assert frames[3][0] not in got
    sink.close()


def test_a_reader_that_goes_away_ends_the_sink_without_noise(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = LiveSink(writing)
    os.close(reading)
    with pytest.raises(MediaError) as caught:  # noqa: PT012 - which of the writes fails is up to the threads
        for frame in encoded(60):
            sink.write(*frame)
            sink._ended.wait(0.5)
    assert caught.value.reason == "output-closed"
    sink.close()


def test_a_reader_that_pauses_holds_up_nobody_and_goes_on_at_a_key_frame(
    pipe: tuple[int, int], tmp_path: Path
) -> None:
    reading, writing = pipe
    sink = LiveSink(writing)
    filler = (bytes.fromhex("1000009d012a4001c000") + os.urandom(200_000), 0.0, True)
    sink.write(*filler)
    assert os.read(reading, 100)
    frames = encoded(QUEUE + 60, (QUEUE + 20,))
    answers = [sink.write(*frame) for frame in frames[: QUEUE + 10]]
    assert not any(answers)
    got = bytearray()
    reader = threading.Thread(target=read_all, args=(reading, got))
    reader.start()
    while sink._queue.qsize():
        sink._ended.wait(0.001)
    answers = [sink.write(*frame) for frame in frames[QUEUE + 10 :]]
    assert answers == [True] * 10 + [False] * 40
    sink.close()
    os.close(writing)
    reader.join()
    for number in (QUEUE + 20, QUEUE + 59):
        assert frames[number][0] in got
    assert frames[QUEUE + 15][0] not in got


def test_closing_does_not_wait_for_a_reader_that_does_not_read(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    sink = LiveSink(writing)
    filler = (bytes.fromhex("1000009d012a4001c000") + os.urandom(200_000), 0.0, True)
    for _ in range(QUEUE + 5):
        sink.write(*filler)
    closing = threading.Thread(target=sink.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


def test_video_is_not_written_to_a_terminal() -> None:
    controller, terminal = pty.openpty()
    with pytest.raises(MediaError) as caught:
        LiveSink(terminal)
    assert caught.value.reason == "output-is-terminal"
    assert "mpv" in caught.value.hint
    os.close(controller)
    os.close(terminal)


# --- snapshot ----------------------------------------------------------------------------------------


def test_a_snapshot_is_replaced_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "a.png"
    sink = PngSink(path, every=1.0, clock=lambda: now)
    seen = []
    for number in range(25):
        now = number * 0.125
        sink.write(Picture(moving.make(number), number, now))
        seen.append(numbers(decoded(path)) if path.exists() else [])
    assert seen == [[0]] * 8 + [[8]] * 8 + [[16]] * 8 + [[24]]
    now += 0.1
    sink.write(Picture(moving.make(25), 25, now))
    sink.close()
    assert numbers(decoded(path)) == [25]
    assert moving.psnr(decoded(path)[0].reformat(format="yuv420p")) > 30
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_snapshot_of_the_end_alone(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "a.png")
    for number in range(3):
        sink.write(Picture(moving.make(number), number, 0.0))
        assert not list(tmp_path.iterdir())
    sink.close()
    assert numbers(decoded(tmp_path / "a.png")) == [2]


def test_no_picture_no_file(tmp_path: Path) -> None:
    PngSink(tmp_path / "a.png", every=1.0).close()
    assert not list(tmp_path.iterdir())


def test_a_snapshot_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    sink = PngSink(tmp_path / "missing" / "a.png", every=0.0)
    with pytest.raises(MediaError) as caught:
        sink.write(Picture(moving.make(0), 0, 0.0))
    assert caught.value.reason == "output-failed"


def test_the_null_sink_counts() -> None:
    sink = NullSink()
    for number in range(3):
        sink.write(Picture(moving.make(number), number, 0.0))
    sink.close()
    assert (sink.pictures, sink.size) == (3, (320, 192))
