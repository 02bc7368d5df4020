"""From RTP packets to whole encoded frames: a jitter buffer that waits for no timer it does not need.

Sans-IO: packets and times in, frames and sequence numbers to ask for again out. Unlike a playout buffer
it adds no delay: a frame leaves as soon as its last packet is there and nothing before it is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

CAPACITY = 1024
"""Packets held at most; about 1.3 MB, a second of 10 Mbit/s."""

PATIENCE = 0.25
"""Seconds a missing packet is waited for before its frame is given up."""

NACK_BATCH = 128
"""Sequence numbers asked for at once; aiortc's sender remembers no more (rtp.RTP_HISTORY_SIZE)."""

_FIRST_RTT = 0.04
_SHORTEST_RETRY = 0.01
_LONGEST_RETRY = 0.1


@dataclass(frozen=True, slots=True)
class RtpPiece:
    """One RTP packet, its payload descriptor already read and removed.

    ``sequence`` is 16 bits, ``timestamp`` 32 bits of the 90 kHz clock; ``starts`` says that a frame
    begins here, ``keyframe`` (only looked at where ``starts``) that it is a key frame. All of it is the
    SFU's word.
    """

    sequence: int
    timestamp: int
    marker: bool
    starts: bool
    keyframe: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A whole frame as received. ``gap``: packets before it were given up."""

    data: bytes
    timestamp: int
    gap: bool


@dataclass(slots=True)
class _Missing:
    since: float
    asked: float | None = None
    times: int = 0


class JitterBuffer:
    """Orders packets, asks again for lost ones and gives up what does not come.

    Call ``add`` for every packet and ``poll`` afterwards, and again at ``wake_at``.
    """

    def __init__(self, capacity: int = CAPACITY, patience: float = PATIENCE) -> None:
        self._capacity = capacity
        self._patience = patience
        self._pieces: dict[int, RtpPiece] = {}
        self._missing: dict[int, _Missing] = {}
        self._next = 0
        self._highest: int | None = None
        self._gap = False
        self._rtt = _FIRST_RTT
        self.late = 0
        self.duplicates = 0
        self.given_up = 0
        self.asked_again = 0

    def add(self, piece: RtpPiece, now: float) -> None:
        """Take a packet; ``now`` in seconds of any monotonic clock."""
        number = self._unwrap(piece.sequence)
        if self._highest is None or abs(number - self._highest) > self._capacity:
            self._restart(piece.sequence)
            number = piece.sequence
        assert self._highest is not None
        if number < self._next:
            self.late += 1
            return
        if number in self._pieces:
            self.duplicates += 1
            return
        for absent in range(self._highest + 1, number):
            self._missing[absent] = _Missing(now)
        self._highest = max(self._highest, number)
        if found := self._missing.pop(number, None):
            self._learn_rtt(found, now)
        self._pieces[number] = piece

    def poll(self, now: float) -> tuple[list[ReceivedFrame], list[int]]:
        """All frames that are whole, in order, and the 16-bit sequence numbers to NACK now."""
        frames = self._drain()
        while self._overdue(now):
            self._skip()
            frames += self._drain()
        return frames, self._nacks(now)

    def wake_at(self) -> float | None:
        """When ``poll`` has something to do even if no packet comes; None: nothing is missing."""
        if not self._missing:
            return None
        head = next(iter(self._missing.values()))
        asks = min(self._ask_at(m) for m in list(self._missing.values())[:NACK_BATCH])
        return min(head.since + self._patience, asks)

    # --- order -------------------------------------------------------------------------------------

    def _unwrap(self, sequence: int) -> int:
        if self._highest is None:
            return sequence
        ahead = (sequence - self._highest + 0x8000 & 0xFFFF) - 0x8000
        return self._highest + ahead

    def _restart(self, sequence: int) -> None:
        self._gap = self._highest is not None
        self.given_up += len(self._missing)
        self._pieces.clear()
        self._missing.clear()
        self._next = sequence
        self._highest = sequence - 1

    def _drain(self) -> list[ReceivedFrame]:
        frames: list[ReceivedFrame] = []
        while True:
            while end := self._frame_end(self._next):
                frames += self._take(end)
            if not self._jump_to_keyframe():
                return frames

    def _frame_end(self, start: int) -> int | None:
        """One past the last packet of the frame that starts at ``start``; None while it is not whole.

        The marker ends a frame (RFC 7741, section 4.1). Where it was lost on the way through an SFU, the
        next timestamp does.
        """
        first = self._pieces.get(start)
        number = start
        while (piece := self._pieces.get(number)) is not None:
            assert first is not None
            if piece.timestamp != first.timestamp:
                return number
            number += 1
            if piece.marker:
                return number
        return None

    def _take(self, end: int) -> list[ReceivedFrame]:
        pieces = [self._pieces.pop(number) for number in range(self._next, end)]
        self._next = end
        if not pieces[0].starts:
            # Joined in the middle of a frame, or padding that carries no frame.
            self._gap = self._gap or any(piece.data for piece in pieces)
            return []
        frame = ReceivedFrame(b"".join(piece.data for piece in pieces), pieces[0].timestamp, self._gap)
        self._gap = False
        return [frame]

    def _jump_to_keyframe(self) -> bool:
        """A whole key frame needs nothing that came before it: what is missing there is let go."""
        if not self._missing:
            return False
        hole = next(iter(self._missing))
        starts = [n for n, p in self._pieces.items() if n > hole and p.starts and p.keyframe]
        for start in sorted(starts, reverse=True):
            if self._frame_end(start):
                self._advance(start)
                return True
        return False

    # --- loss --------------------------------------------------------------------------------------

    def _overdue(self, now: float) -> bool:
        if self._highest is not None and self._highest + 1 - self._next > self._capacity:
            return True
        head = next(iter(self._missing.values()), None)
        return head is not None and now - head.since >= self._patience

    def _skip(self) -> None:
        """Go on at the first frame that starts after the first hole (or in a frame without an end)."""
        assert self._highest is not None
        hole = next(iter(self._missing), self._next)
        number = hole + 1
        while number <= self._highest and not ((p := self._pieces.get(number)) and p.starts):
            number += 1
        self._advance(number)

    def _advance(self, number: int) -> None:
        for lost in [n for n in self._missing if n < number]:
            del self._missing[lost]
            self.given_up += 1
        for dropped in [n for n in self._pieces if n < number]:
            del self._pieces[dropped]
        self._next = number
        self._gap = True

    def _ask_at(self, missing: _Missing) -> float:
        if missing.asked is None:
            return missing.since
        return missing.asked + min(max(1.2 * self._rtt, _SHORTEST_RETRY), _LONGEST_RETRY)

    def _nacks(self, now: float) -> list[int]:
        due = [(n, m) for n, m in list(self._missing.items())[:NACK_BATCH] if self._ask_at(m) <= now]
        for _, missing in due:
            self.asked_again += missing.times > 0
            missing.asked = now
            missing.times += 1
        return [n & 0xFFFF for n, _ in due]

    def _learn_rtt(self, found: _Missing, now: float) -> None:
        # Karn's rule (RFC 6298, section 3): an answer after a second question tells nothing of the RTT.
        if found.times == 1 and found.asked is not None:
            self._rtt += (now - found.asked - self._rtt) / 8
