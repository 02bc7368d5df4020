"""A stream on its way out: source, encoder and seal in a thread of their own, frames for who sends them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dongled.media.api import PatientSource, Picture, PictureSource, StreamContext
from dongled.media.encoder import Vp8Encoder
from dongled.media.errors import MediaError
from dongled.media.frames import FrameSealer
from dongled.media.rate import Rate
from dongled.media.stages import Stages
from dongled.media.vp8 import is_key_frame

log = logging.getLogger(__name__)

QUEUE = 8
"""Frames that wait for the network at most: a quarter of a second."""

FORCED_EVERY = 1.0
"""Seconds between key frames on request: viewers without a key ask without end."""

_READ_TIMEOUT = 0.2
# While nobody may have a picture, one is read this often (seconds), to see that the source lives: drawing,
# decoding or converting the rest was most of what an idle terminal cost.
_IDLE_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class WireFrame:
    """What is handed to the packetizer: a frame, sealed unless the stream is plain.

    ``timestamp`` is on the 90 kHz clock; since ``ready_at``, in seconds of the stream's clock, it waits.
    """

    data: bytes = field(repr=False)
    timestamp: int
    keyframe: bool
    ready_at: float = 0.0


@dataclass(frozen=True, slots=True)
class OutboundStats:
    """Counters since ``start``; ``bitrate`` (bit/s) and ``fps`` of the last two seconds, as sent.

    ``drops`` by reason: ``queue-full`` (the network takes no more; the picture was not encoded, so that no
    later one builds on it), ``keys-dropped``. ``stages``: seconds that the last frames spent, on average, in
    ``capture`` (until the encoder took the picture), ``encode``, ``seal`` and ``send`` (until the packetizer
    took the frame).
    """

    frames_captured: int = 0
    frames_encoded: int = 0
    frames_sealed: int = 0
    frames_sent: int = 0
    keyframes: int = 0
    bytes: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    bitrate: float = 0.0
    fps: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)


class OutboundStream:
    """Encodes while somebody takes the frames, and, if ``encrypted``, while there is a key.

    ``bitrate`` in bit/s. ``on_fault`` is called once, from the thread, when the source or the encoder broke.
    Every method may be called from any thread.
    """

    def __init__(
        self,
        source: PictureSource,
        context: StreamContext,
        *,
        bitrate: int,
        encrypted: bool,
        on_fault: Callable[[MediaError], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._context = context
        self._encrypted = encrypted
        self._encoder = Vp8Encoder(bitrate=bitrate, fps=source.fps)
        self._on_fault = on_fault
        self._clock = clock
        self._lock = threading.Lock()
        self._sealer: FrameSealer | None = None
        self._keys = 0
        self._last_position: tuple[int, int] | None = None
        self._wake: Callable[[], None] | None = None
        self._queue: deque[WireFrame] = deque()
        self._switch = True
        self._asked = False
        self._forced_at = float("-inf")
        self._stats = OutboundStats()
        self._drops: Counter[str] = Counter()
        self._rate = Rate()
        self._stages = Stages()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"encode-{context.stream}", daemon=True)

    def start(self) -> None:
        """Open the source and begin. Blocks while the device opens; raises the source's error."""
        self._source.start()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the source."""
        self.drop_keys()
        self._stopping.set()
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join()

    # --- keys ----------------------------------------------------------------------------------------

    def use_key(self, kid: int, base_key: bytes, signing_key: bytes, suite: int = 5) -> None:
        """Seal with this generation from now on: the next frame is a key frame under it.

        ``signing_key`` is the raw Ed25519 private key. Nothing is sealed with an older generation once this
        has returned. Raises MediaError.
        """
        if not self._encrypted:
            raise MediaError("plain-stream", "a plain stream takes no key", "this is a defect: report it")
        with self._lock:
            sealer = self._sealer or FrameSealer(self._context)
            sealer.use(kid, base_key, signing_key, suite)
            self._sealer = sealer
            self._keys += 1
            self._switch = True
            self._note_wanted()

    def drop_keys(self) -> None:
        """Send nothing more, at once, until the next ``use_key``: frames that wait are dropped as well."""
        with self._lock:
            if self._sealer is not None:
                self._sealer.stop()
                self._sealer = None
            self._keys += 1
            self._drops["keys-dropped"] += len(self._queue)
            self._queue.clear()
            self._note_wanted()

    @property
    def absent(self) -> str:
        """Why the source gives no pictures, where it waits for its device; else empty."""
        return self._source.why if isinstance(self._source, PatientSource) else ""

    @property
    def position(self) -> tuple[int, int] | None:
        """Highest (KID, CTR) sealed; None before the first."""
        with self._lock:
            return self._last_position

    # --- who takes the frames ------------------------------------------------------------------------

    def attach(self, wake: Callable[[], None]) -> None:
        """Begin to encode for a taker; ``wake`` is called from the thread when ``take`` has a frame."""
        with self._lock:
            self._queue.clear()
            self._wake = wake
            self._switch = True
            self._note_wanted()

    def detach(self, wake: Callable[[], None]) -> None:
        """The taker is gone. Nothing happens if another has attached since."""
        with self._lock:
            if self._wake == wake:
                self._wake = None
                self._queue.clear()
                self._note_wanted()

    def take(self) -> WireFrame | None:
        """The next frame to send."""
        with self._lock:
            if not self._queue:
                return None
            frame = self._queue.popleft()
            now = self._clock()
            self._rate.add(len(frame.data), now)
            self._stages.add("send", now - frame.ready_at)
            self._count(frames_sent=1, bytes=len(frame.data))
            return frame

    def force_keyframe(self) -> None:
        """Make the next frame a key frame, or the first one a second after the last that was asked for."""
        with self._lock:
            self._asked = True

    def stats(self) -> OutboundStats:
        with self._lock:
            fps, bitrate = self._rate.read(self._clock())
            return replace(
                self._stats, drops=dict(self._drops), fps=fps, bitrate=bitrate, stages=self._stages.read()
            )

    # --- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wanted.wait(_IDLE_PAUSE)
                picture = self._source.read(_READ_TIMEOUT)
                if picture is not None:
                    self._send(picture)
        except MediaError as error:
            self._fault(error)
        except Exception as error:  # noqa: BLE001 - a source raises its own room's errors, unknown here
            self._fault(
                MediaError(getattr(error, "reason", "source-failed"), str(error), getattr(error, "hint", ""))
            )
        finally:
            self._source.close()

    def _fault(self, error: MediaError) -> None:
        log.error("stream %s: %s [%s]", self._context.stream, error, error.reason)
        if self._on_fault is not None and not self._stopping.is_set():
            self._on_fault(error)

    def _send(self, picture: Picture) -> None:
        with self._lock:
            self._count(frames_captured=1)
        while (work := self._plan()) is not None:
            keyframe, keys = work
            begun = self._clock()
            data, timestamp = self._encoder.encode(picture, keyframe=keyframe)
            with self._lock:
                self._stages.add("capture", begun - picture.captured_at)
                self._stages.add("encode", self._clock() - begun)
            if self._deliver(data, timestamp, keys):
                return

    def _plan(self) -> tuple[bool, int] | None:
        """Whether the next frame must be a key frame, and under which set of keys; None: there is none."""
        with self._lock:
            if not self._goes_somewhere():
                return None
            if len(self._queue) >= QUEUE:
                self._drops["queue-full"] += 1
                return None
            now = self._clock()
            asked = self._asked and now - self._forced_at >= FORCED_EVERY
            keyframe = self._switch or asked
            if asked:
                self._forced_at = now
            if keyframe:
                self._switch = self._asked = False
            return keyframe, self._keys

    def _goes_somewhere(self) -> bool:
        return self._wake is not None and not (self._encrypted and self._sealer is None)

    def _note_wanted(self) -> None:
        if self._goes_somewhere():
            self._wanted.set()
        else:
            self._wanted.clear()

    def _deliver(self, data: bytes, timestamp: int, keys: int) -> bool:
        """Seal and queue. False when the keys changed meanwhile: the picture must be encoded again."""
        with self._lock:
            if keys != self._keys:
                return False
            self._count(frames_encoded=1)
            keyframe = is_key_frame(data)
            if not data:  # libvpx spent its bitrate
                return True
            ready_at = self._clock()
            if self._sealer is not None:
                data = self._sealer.seal(data)
                begun, ready_at = ready_at, self._clock()
                self._stages.add("seal", ready_at - begun)
                position = self._sealer.position
                if position is not None:
                    self._last_position = position.kid, position.next_ctr - 1
                self._count(frames_sealed=1)
            self._count(keyframes=int(keyframe))
            self._queue.append(WireFrame(data, timestamp, keyframe, ready_at))
            wake = self._wake
        if wake is not None:
            wake()
        return True

    def _count(self, **more: int) -> None:
        self._stats = replace(
            self._stats, **{name: getattr(self._stats, name) + value for name, value in more.items()}
        )
