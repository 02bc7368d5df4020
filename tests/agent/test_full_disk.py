"""A disk that is full, a real one, and then is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import av
import pytest

from dongled.agent.policy.clock import BUILD_TIME
from dongled.agent.policy.floor import FloorFile
from dongled.media.api import Picture
from dongled.media.encoder import Vp8Encoder
from dongled.media.sinks import MkvSink, PngSink
from dongled.media.sinks.lasting import AGAIN, LastingPictures, LastingRecording, free_name
from dongled.media.vp8 import is_key_frame
from support import moving

SIZE = 256 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, in this run's own mount namespace."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(os.urandom(4096)):
            pass
    assert os.statvfs(disk).f_bfree == 0
    return ballast


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Film:
    """Frames of a moving picture, 30 a second."""

    def __init__(self) -> None:
        self.number = 0
        self._encoder = Vp8Encoder(bitrate=2_000_000, fps=30)
        self._forced = True

    def write_to(self, sink: LastingRecording, frames: int) -> None:
        for _ in range(frames):
            picture = Picture(moving.make(self.number), self.number, self.number / 30)
            data, _ = self._encoder.encode(picture, keyframe=self._forced)
            if data:
                self._forced = sink.write(data, self.number / 30, is_key_frame(data))
            self.number += 1


def pictures_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_recording_stops_and_goes_on_in_another_file(disk: Path) -> None:
    clock, film, path = Clock(), Film(), disk / "film.mkv"
    recording = LastingRecording(lambda: MkvSink(free_name(path)), clock)
    while path.stat().st_size < 32 << 10 if path.exists() else True:
        film.write_to(recording, 5)
    ballast = fill(disk)
    film.write_to(recording, 200)
    assert [each.name for each in disk.glob("*.mkv")] == ["film.mkv"]
    ballast.unlink()
    film.write_to(recording, 20)
    assert not (disk / "film-2.mkv").exists(), "it is tried only now and then"
    clock.now += AGAIN
    film.write_to(recording, 30)
    recording.close()
    assert pictures_in(path) >= 1
    assert pictures_in(disk / "film-2.mkv") >= 20


def test_no_room_from_the_beginning_is_no_end(disk: Path) -> None:
    clock, film = Clock(), Film()
    ballast = fill(disk)
    recording = LastingRecording(lambda: MkvSink(disk / "missing" / "film.mkv"), clock)
    film.write_to(recording, 5)
    (disk / "missing").mkdir()
    ballast.unlink()
    clock.now += AGAIN
    film.write_to(recording, 30)
    recording.close()
    assert pictures_in(disk / "missing" / "film.mkv") >= 20


def test_a_recording_of_the_last_session_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(b"precious")
    film = Film()
    recording = LastingRecording(lambda: MkvSink(free_name(path)))
    film.write_to(recording, 5)
    recording.close()
    assert path.read_bytes() == b"precious"
    assert pictures_in(tmp_path / "film-2.mkv") >= 3


def test_the_newest_picture_is_written_again_when_there_is_room(disk: Path) -> None:
    clock, path = Clock(), disk / "newest.png"
    sink = LastingPictures(PngSink(path, every=0.0, clock=clock), clock)
    ballast = fill(disk)
    for number in range(5):
        sink.write(Picture(moving.make(number), number, 0.0))
    assert not path.exists()
    ballast.unlink()
    clock.now += AGAIN
    sink.write(Picture(moving.make(9), 9, 0.0))
    assert path.read_bytes().startswith(b"\x89PNG")
    fill(disk)
    sink.write(Picture(moving.make(10), 10, 0.0))
    sink.close()
    assert path.read_bytes().startswith(b"\x89PNG"), "the one before stays whole"


def test_the_floor_of_time_stays_whole(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    floor = FloorFile(disk)
    kept, later = BUILD_TIME + timedelta(days=1), BUILD_TIME + timedelta(days=2)
    floor.save(kept)
    fill(disk)
    floor.save(later)
    assert floor.load() == kept
    assert "cannot be kept" in caplog.text
