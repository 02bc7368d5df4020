"""The media of a meeting in simulated time: frames really sealed and opened, and every one accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from agent.protocol.bus import Bus, Terminal
from dongled.agent.protocol.api import OpenWith, SealWith, StopOpening, StopSealing
from dongled.media.api import StreamContext
from dongled.media.errors import FrameRejected
from dongled.media.frames import FrameOpener, FrameSealer
from dongled.media.held import HeldFrames
from dongled.media.keyring import UnknownKey
from support.frames import delta_frame, key_frame

# A frame every 100 ms: what is lost is lost by keys, whatever the rate.
EVERY = 0.1
NETWORK = 0.03


@dataclass
class Watching:
    """One receiver of the stream, as ``InboundStream`` treats frames, without a decoder behind it.

    ``came`` = opened + failed + skipped + held, always. ``shown_at`` is when a frame last opened.
    """

    opener: FrameOpener
    since: float
    held: HeldFrames[bytes] = field(default_factory=HeldFrames)
    came: int = 0
    opened: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    shown_at: float | None = None

    def receive(self, wire: bytes, now: float) -> None:
        self.came += 1
        self._open(wire, now)

    def install(self, key: OpenWith, now: float) -> None:
        self.opener.install(key.kid, key.base_key, key.verify_key, key.suite)
        for wire in self.held.release(key.kid):
            self._open(wire, now)

    def forget(self, below: int | None) -> None:
        self.opener.forget(below)
        self.reasons["held-too-long"] += len(self.held.drop(below))

    def _open(self, wire: bytes, now: float) -> None:
        try:
            self.opener.open(wire)
        except UnknownKey as unknown:
            self.reasons["held-too-long"] += len(self.held.hold(unknown.kid, wire, len(wire)))
        except FrameRejected as rejected:
            self.reasons[rejected.reason] += 1
        else:
            self.opened += 1
            self.shown_at = now

    @property
    def unaccounted(self) -> int:
        return self.came - self.opened - self.reasons.total() - len(self.held)


class Media:
    """One publisher's stream to everybody who is in the meeting, as an SFU forwards it."""

    def __init__(self, bus: Bus, publisher: Terminal) -> None:
        self._bus, self._publisher = bus, publisher
        session = publisher.session
        self._context = StreamContext("meeting", session, "camera", "vp8")
        self._sealer = FrameSealer(self._context)
        self._sealing = False
        self._keyframe = True
        self._done: dict[str, int] = {}
        self.sealed = 0
        self.kept_back = 0
        self.watching: dict[str, Watching] = {}
        bus.at(0, self._frame)

    def enter(self, terminal: Terminal) -> Watching:
        """From now on this terminal gets the frames."""
        watching = self.watching[terminal.source] = Watching(FrameOpener(self._context), self._bus.now)
        return watching

    def _frame(self) -> None:
        self._bus.at(EVERY, self._frame)
        self._follow()
        if not self._sealing:
            self.kept_back += 1
            return
        picture = self.sealed.to_bytes(8)
        wire = self._sealer.seal(key_frame(picture) if self._keyframe else delta_frame(picture))
        self._keyframe = False
        self.sealed += 1
        for terminal in self._bus.terminals:
            if terminal.on_bus and terminal.source in self.watching:
                self._bus.at(NETWORK, partial(self._arrive, terminal, wire))

    def _arrive(self, terminal: Terminal, wire: bytes) -> None:
        self._follow()
        if terminal.on_bus:
            self.watching[terminal.source].receive(wire, self._bus.now)

    def _follow(self) -> None:
        """Carry out what the machines have wanted since, in their order."""
        for effect in self._new(self._publisher):
            match effect:
                case SealWith():
                    self._sealer.use(effect.kid, effect.base_key, effect.signing_key, effect.suite)
                    self._sealing = self._keyframe = True
                case StopSealing():
                    self._sealer.stop()
                    self._sealing = False
                case _:
                    pass
        for terminal in self._bus.terminals:
            if terminal.source in self.watching and terminal.on_bus:
                watching = self.watching[terminal.source]
                for effect in self._new(terminal):
                    match effect:
                        case OpenWith() if effect.session == self._publisher.session:
                            watching.install(effect, self._bus.now)
                        case StopOpening(session, _, below) if session == self._publisher.session:
                            watching.forget(below)
                        case _:
                            pass

    def _new(self, terminal: Terminal) -> list[object]:
        seen = self._done.get(terminal.source, 0)
        self._done[terminal.source] = len(terminal.effects)
        return list(terminal.effects[seen:])
