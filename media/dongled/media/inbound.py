"""A stream on its way in: opened, decoded and handed to its sinks in a thread of its own.

Frames reach a decoder or a sink only in the order and completeness in which their sender sealed them. It is
SFrame's counter that says so, which the SFU cannot change, and not RTP's sequence numbers, which it writes.
After a gap the stream waits for a key frame rather than decode on: what a decoder makes of a frame without
its reference is a picture that the camera never saw, and whoever drops frames at will could choose it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from dongled.media.api import EncodedSink, Picture, PictureSink, StreamContext
from dongled.media.decoder import Vp8Decoder
from dongled.media.encoder import CLOCK_RATE
from dongled.media.errors import FrameRejected, MediaError
from dongled.media.frames import FrameOpener
from dongled.media.held import HeldFrames
from dongled.media.jitter import ReceivedFrame
from dongled.media.keyring import UnknownKey
from dongled.media.rate import Rate
from dongled.media.rules import rule_for
from dongled.media.stages import Stages
from dongled.media.vp8 import is_key_frame

log = logging.getLogger(__name__)

QUEUE = 90
"""Frames that wait for the decoder at most: three seconds, as after a key came late."""

ASK_EVERY = 1.0
"""Seconds between two requests for a key frame; a publisher answers no more often."""

_STRAY = 5.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class InboundStats:
    """Counters since the stream was made; times are CLOCK_MONOTONIC seconds, None before the first.

    ``failed`` counts frames that were not opened, by reason: the SFU, a wrong key, a forger. ``skipped``
    counts opened frames that were not shown: ``no-keyframe`` (after a gap), ``late`` (out of order),
    ``queue-full``, ``held-too-long``, and what a decoder refused. ``first_opened_at`` is the first frame
    opened (in a plain stream: received), ``first_frame_at`` the first that went to the sinks; ``last`` is
    the highest (KID, CTR) opened. ``bitrate`` (bit/s) and ``fps`` are of the frames opened in the last two
    seconds. ``stages``: seconds that the last frames spent, on average, in ``receive`` (until they were
    opened; a frame may wait for its key), ``open`` and ``decode``.
    """

    frames_received: int = 0
    bytes_received: int = 0
    frames_opened: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    decoded: int = 0
    held: int = 0
    gaps: int = 0
    keyframe_requests: int = 0
    first_opened_at: float | None = None
    first_frame_at: float | None = None
    last: tuple[int, int] | None = None
    bitrate: float = 0.0
    fps: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def frames_failed(self) -> int:
        return sum(self.failed.values())


@dataclass(frozen=True, slots=True)
class _Arrival:
    frame: ReceivedFrame
    at: float


@dataclass(frozen=True, slots=True)
class _KeysChanged:
    """Not a frame: keys were installed, or those below ``forgot`` were retired."""

    forgot: int | None = 0


@dataclass(frozen=True, slots=True)
class _Opened:
    """``position`` is (KID, CTR), None in a plain stream."""

    data: bytes
    arrival: _Arrival
    position: tuple[int, int] | None


class InboundStream:
    """Frames as received in, pictures and encoded frames out to the sinks.

    Without picture sinks nothing is decoded. An ``encrypted`` stream hands on nothing that was not opened; a
    plain one has no opener at all. The stream owns its sinks; one that fails is closed, ``on_fault`` is told
    of it from the stream's thread, and the others go on. Every method may be called from any thread.
    """

    def __init__(
        self,
        context: StreamContext,
        sinks: Sequence[PictureSink],
        *,
        encrypted: bool,
        encoded_sinks: Sequence[EncodedSink] = (),
        on_fault: Callable[[MediaError], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises MediaError, ``codec-refused``."""
        rule_for(context.codec)
        self._context = context
        self._opener = FrameOpener(context) if encrypted else None
        self._sinks = list(sinks)
        self._encoded_sinks = list(encoded_sinks)
        self._on_fault = on_fault
        self._clock = clock
        self._decoder = Vp8Decoder()
        self._held: HeldFrames[_Arrival] = HeldFrames()
        self._ask: Callable[[], None] | None = None
        self._asked_at = float("-inf")
        self._awaits_keyframe = True
        self._last: tuple[int, int] | None = None
        self._times = _Times()
        self._condition = threading.Condition()
        self._keys_lock = threading.Lock()
        self._queue: deque[_Arrival | _KeysChanged] = deque()
        self._overflowed = False
        self._closed = False
        self._stats = InboundStats()
        self._rate = Rate()
        self._stages = Stages()
        self._failed: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name=f"decode-{context.stream}", daemon=True)
        self._thread.start()

    # --- keys ----------------------------------------------------------------------------------------

    def install(self, kid: int, base_key: bytes, verify_key: bytes, suite: int = 5) -> None:
        """Open this generation from now on, frames that waited for it first. Raises MediaError."""
        if self._opener is None:
            raise MediaError("plain-stream", "a plain stream takes no key", "this is a defect: report it")
        with self._keys_lock:
            self._opener.install(kid, base_key, verify_key, suite)
        self._put(_KeysChanged())

    def forget(self, below: int | None = None) -> None:
        """Open no generation below ``below`` any more; None: none at all."""
        if self._opener is not None:
            self._opener.forget(below)
            self._put(_KeysChanged(below))

    # --- frames --------------------------------------------------------------------------------------

    def attach(self, ask_keyframe: Callable[[], None]) -> None:
        """Frames come now; ``ask_keyframe`` is called from the stream's thread."""
        with self._condition:
            self._ask = ask_keyframe

    def detach(self, ask_keyframe: Callable[[], None]) -> None:
        """They come no more. Nothing happens if another has attached since."""
        with self._condition:
            if self._ask == ask_keyframe:
                self._ask = None

    def receive(self, frame: ReceivedFrame) -> None:
        """Take a frame as it came from the jitter buffer; never blocks."""
        with self._condition:
            self._count(frames_received=1, bytes_received=len(frame.data))
            if len(self._queue) >= QUEUE:
                others = [item for item in self._queue if isinstance(item, _KeysChanged)]
                self._skipped["queue-full"] += len(self._queue) - len(others)
                self._queue = deque(others)
                self._overflowed = True
        self._put(_Arrival(frame, self._clock()))

    def stats(self) -> InboundStats:
        with self._condition:
            fps, bitrate = self._rate.read(self._clock())
            return replace(
                self._stats,
                fps=fps,
                bitrate=bitrate,
                failed=dict(self._failed),
                skipped=dict(self._skipped),
                held=len(self._held),
                last=self._last,
                stages=self._stages.read(),
            )

    def close(self) -> None:
        """Deal with what has come, then end the thread and close the sinks."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    # --- the thread ----------------------------------------------------------------------------------

    def _put(self, item: _Arrival | _KeysChanged) -> None:
        with self._condition:
            self._queue.append(item)
            self._condition.notify()

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                for opened in self._open_all(item):
                    self._in_order(opened)
        finally:
            sinks: list[PictureSink | EncodedSink] = [*self._sinks, *self._encoded_sinks]
            for sink in sinks:
                self._guard(sink, sink.close)

    def _next(self) -> _Arrival | _KeysChanged | None:
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._queue)
            if not self._queue:
                return None
            if self._overflowed:
                self._overflowed = False
                self._awaits_keyframe = True
            return self._queue.popleft()

    def _open_all(self, item: _Arrival | _KeysChanged) -> list[_Opened]:
        """What can be opened now. Held frames go before the one that came after them.

        The lock keeps a key from being installed between the two, which would let the later frame overtake.
        """
        if self._opener is None:
            return [_Opened(item.frame.data, item, None)] if isinstance(item, _Arrival) else []
        with self._keys_lock:
            if isinstance(item, _KeysChanged):
                self._skip("held-too-long", len(self._held.drop(item.forgot)))
            waiting = [arrival for kid in self._opener.kids for arrival in self._held.release(kid)]
            if isinstance(item, _Arrival):
                waiting.append(item)
            return [opened for arrival in waiting if (opened := self._open(self._opener, arrival))]

    def _open(self, opener: FrameOpener, arrival: _Arrival) -> _Opened | None:
        begun = self._clock()
        try:
            opened = opener.open(arrival.frame.data)
        except UnknownKey as unknown:
            dropped = self._held.hold(unknown.kid, arrival, len(arrival.frame.data))
            self._skip("held-too-long", len(dropped))
        except FrameRejected as rejected:
            with self._condition:
                self._failed[rejected.reason] += 1
            self._want_keyframe()
        else:
            self._spent(receive=begun - arrival.at, open=self._clock() - begun)
            return _Opened(opened.data, arrival, (opened.kid, opened.ctr))
        return None

    def _in_order(self, opened: _Opened) -> None:
        with self._condition:
            self._count(frames_opened=1)
            self._rate.add(len(opened.data), opened.arrival.at)
            if self._stats.first_opened_at is None:
                self._stats = replace(self._stats, first_opened_at=self._clock())
        if opened.position is None:
            if opened.arrival.frame.gap:
                self._lost()
        elif self._last is not None and opened.position < self._last:
            self._skip("late")
            return
        else:
            kid, ctr = opened.position
            if self._last is None or (kid > self._last[0] and ctr == 0):
                self._awaits_keyframe = True
            elif opened.position != (self._last[0], self._last[1] + 1):
                self._lost()
            self._last = opened.position
        self._show(opened.data, opened.arrival)

    def _show(self, data: bytes, arrival: _Arrival) -> None:
        keyframe = is_key_frame(data)
        if self._awaits_keyframe and not keyframe:
            self._skip("no-keyframe")
            self._want_keyframe()
            return
        self._awaits_keyframe = False
        timestamp = self._times.seconds(arrival.frame.timestamp, arrival.at)
        for sink in list(self._encoded_sinks):
            if self._guard(sink, partial(sink.write, data, timestamp, keyframe)):
                self._want_keyframe()
        if self._sinks and not self._decode(data, arrival):
            return
        with self._condition:
            if self._stats.first_frame_at is None:
                self._stats = replace(self._stats, first_frame_at=self._clock())

    def _decode(self, data: bytes, arrival: _Arrival) -> bool:
        begun = self._clock()
        try:
            frames = self._decoder.decode(data)
        except MediaError as error:
            log.warning("stream %s: %s [%s]", self._context.stream, error, error.reason)
            self._skip(error.reason)
            self._lost()
            self._want_keyframe()
            return False
        self._spent(decode=self._clock() - begun)
        for frame in frames:
            picture = Picture(frame, self._stats.decoded, arrival.at)
            for sink in list(self._sinks):
                self._guard(sink, partial(sink.write, picture))
            with self._condition:
                self._count(decoded=1)
        return True

    def _guard(self, sink: PictureSink | EncodedSink, action: Callable[[], _T]) -> _T | None:
        """A full disk or a closed pipe ends its own sink and nothing else."""
        try:
            return action()
        except (MediaError, OSError) as error:
            self._sinks = [other for other in self._sinks if other is not sink]
            self._encoded_sinks = [other for other in self._encoded_sinks if other is not sink]
            fault = error if isinstance(error, MediaError) else MediaError("output-failed", str(error))
            log.warning("stream %s: %s [%s]", self._context.stream, fault, fault.reason)
            if self._on_fault is not None:
                self._on_fault(fault)
            with contextlib.suppress(MediaError, OSError):
                sink.close()
            return None

    def _lost(self) -> None:
        with self._condition:
            self._count(gaps=1)
        self._awaits_keyframe = True

    def _want_keyframe(self) -> None:
        """Called for every frame that needs one, so the request is repeated as long as frames come."""
        now = self._clock()
        with self._condition:
            ask = self._ask
            if ask is None or now - self._asked_at < ASK_EVERY:
                return
            self._asked_at = now
            self._count(keyframe_requests=1)
        ask()

    def _skip(self, reason: str, frames: int = 1) -> None:
        with self._condition:
            if frames:
                self._skipped[reason] += frames

    def _spent(self, **seconds: float) -> None:
        with self._condition:
            for stage, spent in seconds.items():
                self._stages.add(stage, spent)

    def _count(self, **more: int) -> None:
        self._stats = replace(
            self._stats, **{name: getattr(self._stats, name) + value for name, value in more.items()}
        )


class _Times:
    """The sender's clock as far as it is believable: RTP timestamps are the SFU's word."""

    def __init__(self) -> None:
        self._rtp = 0
        self._arrived = 0.0
        self._seconds: float | None = None

    def seconds(self, rtp: int, arrived: float) -> float:
        """Seconds since the first frame, rising. A step that is 5 s off the arrival's is replaced by it."""
        if self._seconds is None:
            self._seconds = 0.0
        else:
            step = (rtp - self._rtp & 0xFFFFFFFF) / CLOCK_RATE
            waited = arrived - self._arrived
            if abs(step - waited) > _STRAY:
                step = waited
            self._seconds += max(step, 1 / 1000)
        self._rtp, self._arrived = rtp, arrived
        return self._seconds
