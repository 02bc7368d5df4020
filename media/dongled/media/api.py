"""What crosses the border of this room: pictures in, keys in, sinks out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import av


@dataclass(frozen=True, slots=True)
class Picture:
    """One uncompressed picture.

    ``frame`` is planar yuv420p, ``sequence`` counts from 0 at the source (gaps are pictures that a newer
    one replaced), ``captured_at`` is CLOCK_MONOTONIC in seconds.
    """

    frame: av.VideoFrame
    sequence: int
    captured_at: float


class PictureSource(Protocol):
    """Where pictures come from. Blocking; read by one thread, the encoder's.

    One slot, latest wins: a picture that nobody read in time is replaced by the next.
    """

    width: int
    height: int
    fps: int

    def start(self) -> None:
        """Open the device or file. Raises the room's own error with a reason and a hint."""

    def read(self, timeout: float) -> Picture | None:
        """The newest picture not read yet, or None when none came within ``timeout`` seconds.

        Raises the room's own error when the source is gone.
        """

    def close(self) -> None: ...


@runtime_checkable
class PatientSource(PictureSource, Protocol):
    """One that waits for its device: ``why`` there are no pictures, empty while there are."""

    why: str


class PictureSink(Protocol):
    """Where decoded pictures go. Called in order from one thread.

    ``captured_at`` of a decoded picture is when it arrived, ``sequence`` counts what was decoded.
    """

    def write(self, picture: Picture) -> None:
        """Raises MediaError when the sink is at its end."""

    def close(self) -> None: ...


class EncodedSink(Protocol):
    """Where opened frames go without being decoded. Called in order from one thread.

    Starts with a key frame and never misses one in between: after a loss it goes on at a key frame.
    """

    def write(self, data: bytes, timestamp: float, keyframe: bool) -> bool:
        """``timestamp`` in seconds since the stream's first frame, rising.

        Returns whether the sink needs a key frame to go on. Raises MediaError when it is at its end.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What every frame of a stream authenticates and does not send (docs/protocol.md, Frames).

    ``meeting`` is the meeting's name, ``session`` the sender's 16-byte session id, ``stream`` the
    stream's id in that session, ``codec`` ``"vp8"`` (``"h264"`` to come).
    """

    meeting: str
    session: bytes
    stream: str
    codec: str


class Offerer(Protocol):
    """A peer connection that offers (a publisher). SDP as text, in and out."""

    async def offer(self) -> str: ...

    async def accept(self, answer: str) -> None: ...

    async def close(self) -> None: ...


class Answerer(Protocol):
    """A peer connection that answers the SFU's offer (a subscriber, the bus). SDP as text."""

    async def answer(self, offer: str) -> str: ...

    async def close(self) -> None: ...


class TextLink(Answerer, Protocol):
    """A data channel that carries text both ways, in order."""

    async def wait_open(self) -> None: ...

    def send(self, text: str) -> None: ...

    def on_text(self, callback: Callable[[str], None]) -> None: ...

    def on_closed(self, callback: Callable[[], None]) -> None: ...
