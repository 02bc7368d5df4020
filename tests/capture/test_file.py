"""Real video files, made here, played as a source."""

from __future__ import annotations

import functools
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dongled.capture.errors import CaptureError
from dongled.capture.factory import open_source
from dongled.capture.file import VideoFile
from dongled.capture.stamp import luma_of, read_stamp
from dongled.capture.testpicture import render
from dongled.media.api import Picture


def make(path: Path, pictures: int = 10, fps: int = 50, size: tuple[int, int] = (320, 180)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 500_000
        stream.options = {"deadline": "realtime", "cpu-used": "8"}
        for n in range(pictures):
            frame = render(n, n, *size).frame()
            frame.pts, frame.time_base = n, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def play(source: VideoFile, count: int) -> list[Picture]:
    """At most ``count`` pictures, fewer where the file ends; read as they come."""
    pictures: list[Picture] = []
    try:
        while len(pictures) < count:
            picture = source.read(5)
            assert picture is not None
            pictures.append(picture)
    except CaptureError as error:
        if error.reason != "ended":
            raise
    return pictures


def test_pictures_come_in_order_at_the_pace_of_their_timestamps(tmp_path: Path) -> None:
    source = VideoFile(make(tmp_path / "v.mkv"), 320, 180, 50, loop=False)
    begin = time.monotonic()
    source.start()
    pictures = play(source, 99)
    took = time.monotonic() - begin
    source.close()
    numbers = [found.sequence for p in pictures if (found := read_stamp(p.frame))]
    # A busy machine misses some.
    assert len(numbers) == len(pictures) > 1
    assert numbers == sorted(numbers)
    assert numbers == [p.sequence for p in pictures]
    assert numbers[-1] == 9
    assert 0.17 < took < 5
    assert {p.frame.format.name for p in pictures} == {"yuv420p"}


def test_a_looped_file_starts_again_in_time_and_counts_on(tmp_path: Path) -> None:
    source = VideoFile(make(tmp_path / "v.mkv", pictures=5), 320, 180, 50)
    begin = time.monotonic()
    source.start()
    pictures = play(source, 12)
    source.close()
    sequences = [p.sequence for p in pictures]
    assert sequences == sorted(set(sequences))
    assert sequences[-1] >= 11
    for picture in pictures:
        found = read_stamp(picture.frame)
        assert found is not None
        assert found.sequence == picture.sequence % 5
    # Never early, and late by no more than the machine is busy.
    assert 0 <= pictures[-1].captured_at - begin - sequences[-1] / 50 < 5


def test_a_slow_reader_gets_the_newest(tmp_path: Path) -> None:
    source = VideoFile(make(tmp_path / "v.mkv"), 320, 180, 50, loop=False)
    source.start()
    source._reader._thread.join(10)  # everything was played before anybody read
    picture = source.read(0)
    assert picture is not None
    assert picture.sequence == 9
    with pytest.raises(CaptureError) as raised:
        source.read(0)
    assert raised.value.reason == "ended"
    source.close()


def test_a_faster_file_is_thinned_and_scaled(tmp_path: Path) -> None:
    source = VideoFile(make(tmp_path / "v.mkv", pictures=20, size=(640, 360)), 320, 240, 25, loop=False)
    source.start()
    pictures = play(source, 99)
    source.close()
    assert 8 <= pictures[-1].sequence + 1 <= 11
    assert {(p.frame.width, p.frame.height) for p in pictures} == {(320, 240)}


def test_full_range_becomes_limited(tmp_path: Path) -> None:
    path = tmp_path / "white.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuvj420p"
        white = np.full((270, 320), 255, np.uint8)
        white[180:] = 128
        container.mux(stream.encode(av.VideoFrame.from_ndarray(white, "yuvj420p")))
        container.mux(stream.encode(None))
    source = VideoFile(path, 320, 180, 25, loop=False)
    source.start()
    picture = source.read(5)
    source.close()
    assert picture is not None
    assert abs(int(luma_of(picture.frame).mean()) - 235) <= 2


def test_what_is_no_video_is_refused_at_the_start(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a film")
    silent = tmp_path / "sound.wav"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    for path, reason in [
        (tmp_path / "absent.mkv", "file-unreadable"),
        (tmp_path, "file-unreadable"),
        (text, "file-unreadable"),
        (silent, "file-no-video"),
    ]:
        source = VideoFile(path, 320, 180, 25)
        with pytest.raises(CaptureError) as raised:
            source.start()
        assert raised.value.reason == reason
        assert raised.value.hint
        source.close()


def test_a_truncated_file_ends_or_fails_but_never_spins(tmp_path: Path) -> None:
    whole = make(tmp_path / "v.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 20])
    source = VideoFile(path, 320, 180, 50)

    def play_all() -> None:
        source.start()
        while source.read(2):
            pass

    with pytest.raises(CaptureError) as raised:
        play_all()
    assert raised.value.reason in ("file-unreadable", "file-no-video", "file-damaged")
    source.close()


def test_close_ends_the_thread_in_mid_film(tmp_path: Path) -> None:
    source = VideoFile(make(tmp_path / "v.mkv", pictures=3, fps=1), 320, 180, 1)
    source.start()
    assert source.read(5) is not None
    source.close()
    assert not any(thread.name.startswith("video file") for thread in threading.enumerate())
    with pytest.raises(CaptureError) as raised:
        source.read(0)
    assert raised.value.reason == "closed"


def test_the_factory_knows_each_source_and_refuses_the_rest(tmp_path: Path) -> None:
    wanted = functools.partial(open_source, width=320, height=180, fps=25)
    assert type(wanted("testsrc")).__name__ == "TestPicture"
    assert type(wanted("file", path=tmp_path / "v.mkv")).__name__ == "VideoFile"
    assert type(wanted("camera", device=tmp_path / "video0")).__name__ == "Returning"
    for kind in ("file", "camera", "screen"):
        with pytest.raises(CaptureError) as raised:
            wanted(kind)
        assert raised.value.reason == "source-unknown"
