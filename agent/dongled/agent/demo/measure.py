"""Watches what a viewer hands to its player, and measures it against what the camera captured.

The test picture carries its frame counter and its capture time, so that the reference can be drawn again
and the latency read off: from the shutter to the decoded picture at the player.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import IO

import av

from dongled.capture.stamp import read_stamp
from dongled.capture.testpicture import psnr_db, render


@dataclass(slots=True)
class Watched:
    """``frames`` are the encoded frames as the viewer opened them: exactly what the camera sealed."""

    frames: list[bytes] = field(default_factory=list)
    pictures: int = 0
    unreadable: int = 0
    psnr_db: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def psnr_median(self) -> float | None:
        return statistics.median(self.psnr_db) if self.psnr_db else None

    def latency_quantile(self, quantile: float) -> float | None:
        """``quantile`` from 0 to 1."""
        if not self.latency_ms:
            return None
        return sorted(self.latency_ms)[min(len(self.latency_ms) - 1, int(quantile * len(self.latency_ms)))]


class Player:
    """Reads live Matroska from a viewer's standard output, in a thread, as a player would."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.watched = Watched()
        self.picture: av.VideoFrame | None = None
        self._stream = stream
        self._thread = threading.Thread(target=self._play, name="player", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _play(self) -> None:
        try:
            # Begin with the first frame, and hold none back to decode in parallel.
            with av.open(self._stream, "r", options={"probesize": "32"}) as container:
                container.streams.video[0].codec_context.thread_count = 1
                for packet in container.demux(video=0):
                    if packet.size:
                        self.watched.frames.append(bytes(packet))
                    for frame in packet.decode():
                        self._see(frame)
        except av.FFmpegError:
            # The viewer was stopped, perhaps before its first frame: the counts say what came.
            pass

    def _see(self, frame: av.VideoFrame) -> None:
        now_ms = int(time.monotonic() * 1000)
        self.watched.pictures += 1
        self.picture = frame
        stamp = read_stamp(frame)
        if stamp is None:
            self.watched.unreadable += 1
            return
        self.watched.latency_ms.append(stamp.age_ms(now_ms))
        reference = render(stamp.sequence, stamp.captured_ms, frame.width, frame.height)
        self.watched.psnr_db.append(psnr_db(frame, reference.y))
