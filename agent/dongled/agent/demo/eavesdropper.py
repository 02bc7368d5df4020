"""Somebody else in the room: a stock receiver that subscribes to every feed and decodes all it gets.

A process of its own: ``python -m dongled.agent.demo.eavesdropper URL ROOM DIRECTORY``. Until SIGTERM it
writes the RTP payloads, as the SFU forwards them, to ``DIRECTORY/rtp`` (each behind its u32 length), then
what it saw to ``DIRECTORY/seen.json``, and the last picture that it decoded to ``DIRECTORY/picture.png``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np

from dongled.agent.sfu.api import Feed, SfuError
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings
from dongled.capture.stamp import luma_of, read_stamp
from dongled.capture.testpicture import render
from dongled.media.api import Picture, TextLink
from dongled.media.sinks.png import encode_png
from dongled.media.webrtc.stock import StockSubscription

# Correlation from which a picture counts as showing the scene: noise has 0, another frame of the scene 0.9.
LIKENESS = 0.3


@dataclass(slots=True)
class Seen:
    """``frames_received`` on the wire, ``frames_decoded`` by the decoder, ``frames_watchable`` of those."""

    frames_received: int = 0
    frames_decoded: int = 0
    frames_watchable: int = 0


def watchable(frame: av.VideoFrame) -> bool:
    """Whether a picture shows anything of the scene: its stamp can be read, or it resembles it."""
    if read_stamp(frame) is not None:
        return True
    reference = render(0, 0, frame.width, frame.height).y
    one, other = _thumbnail(luma_of(frame)), _thumbnail(reference)
    if one.std() == 0:
        return False
    return float(np.corrcoef(one, other)[0, 1]) >= LIKENESS


def _thumbnail(luma: np.typing.NDArray[np.uint8]) -> np.typing.NDArray[np.float64]:
    return luma[::16, ::16].astype(np.float64).ravel()


class Eavesdropper:
    """Implements RoomListener; subscribes to whatever is published."""

    def __init__(self, url: str, room: str, directory: Path) -> None:
        self._directory = directory
        self._room = JanusRoom(
            JanusSettings(url=url, room=room, create=False, encrypted=False), self, _no_bus
        )
        self._rtp = (directory / "rtp").open("wb")
        self._seen = Seen()
        self._timestamps: set[int] = set()
        self._last: av.VideoFrame | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        await self._room.join("eavesdropper")
        await stop.wait()
        await self._room.leave()
        self._rtp.close()
        if self._last is not None:
            (self._directory / "picture.png").write_bytes(encode_png(Picture(self._last, 0, 0.0)))
        self._seen.frames_received = len(self._timestamps)
        (self._directory / "seen.json").write_text(json.dumps(asdict(self._seen)))

    def feed_published(self, feed: Feed) -> None:
        task = asyncio.create_task(self._subscribe(feed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _subscribe(self, feed: Feed) -> None:
        for _ in range(50):
            subscription = StockSubscription(self._rtp_payload, self._picture)
            try:
                await self._room.subscribe(feed, subscription)
                return
            except SfuError:
                # The feed is announced before it can be subscribed to.
                await subscription.close()
                await asyncio.sleep(0.1)

    def _rtp_payload(self, payload: bytes, timestamp: int) -> None:
        self._timestamps.add(timestamp)
        self._rtp.write(struct.pack(">I", len(payload)) + payload)

    def _picture(self, frame: av.VideoFrame) -> None:
        self._last = frame
        self._seen.frames_decoded += 1
        self._seen.frames_watchable += watchable(frame)

    def feed_gone(self, feed_id: str) -> None:
        pass

    def bus_message(self, source: str, message: bytes) -> None:
        pass

    def bus_member_left(self, source: str) -> None:
        pass

    def bus_refused(self, source: str, reason: str) -> None:
        pass

    def connection_lost(self, reason: str) -> None:
        pass


def _no_bus() -> TextLink:
    raise AssertionError("an eavesdropper joins no bus")


def read_payloads(path: Path) -> list[bytes]:
    """The RTP payloads that an eavesdropper wrote."""
    content, at, payloads = path.read_bytes(), 0, []
    while at + 4 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        payloads.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return payloads


async def main(url: str, room: str, directory: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Eavesdropper(url, room, directory).run(stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
