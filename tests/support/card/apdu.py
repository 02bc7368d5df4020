"""A card that holds applets: SELECT, chaining and GET RESPONSE (ISO/IEC 7816-4, 5.1, 5.3 and 11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

OK = 0x9000
WRONG_LENGTH = 0x6700
NOT_ALLOWED_YET = 0x6982
BLOCKED = 0x6983
CONDITIONS = 0x6985
WRONG_DATA = 0x6A80
NOT_FOUND = 0x6A82
WRONG_P1P2 = 0x6A86
NO_REFERENCE = 0x6A88
NO_INSTRUCTION = 0x6D00
STILL_BUSY = 0x9100

_CHAINED = 0x10
_SELECT, _GET_RESPONSE = 0xA4, 0xC0
_SELECT_BY_NAME = 0x04
_MOST_CHAINED = 8192


class Refused(Exception):
    """The status word of a command that the card refuses."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


class StillBusy(Exception):
    """An applet has not finished; ``data`` says what it waits for (CTAP 2.1, 11.3.7.1)."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


@dataclass(frozen=True, slots=True)
class Command:
    """A command APDU. ``expected`` is how many bytes the host takes at once."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    expected: int

    @classmethod
    def parse(cls, raw: bytes) -> Command:
        """ISO/IEC 7816-4, 5.1: short and extended length fields. Raises Refused."""
        if len(raw) < 4:
            raise Refused(WRONG_LENGTH)
        cla, ins, p1, p2 = raw[:4]
        body = raw[4:]
        if len(body) <= 1:
            return cls(cla, ins, p1, p2, b"", (body[0] or 256) if body else 256)
        extended = body[0] == 0 and len(body) >= 3
        size = 2 if extended else 1
        first = int.from_bytes(body[1:3], "big") if extended else body[0]
        rest = body[size + extended :]
        if not rest and extended:
            return cls(cla, ins, p1, p2, b"", first or 65536)
        data, tail = rest[:first], rest[first:]
        if not first or len(data) != first or len(tail) not in (0, size):
            raise Refused(WRONG_LENGTH)
        most = 65536 if extended else 256
        return cls(cla, ins, p1, p2, data, int.from_bytes(tail, "big") or most)


class Applet(Protocol):
    @property
    def aid(self) -> bytes:
        """Its application identifier; a SELECT may give a beginning of it."""

    def select(self) -> bytes:
        """Become the current application; returns what SELECT answers."""

    def deselect(self) -> None:
        """Another application was selected, or the card was reset: forget who was authenticated."""

    def process(self, command: Command) -> bytes:
        """The answer's data. Raises Refused, StillBusy or MalformedTlv."""


class Card:
    """Applets behind one contact: bytes of a command in, bytes of a response out."""

    def __init__(self, atr: bytes, *applets: Applet) -> None:
        self.atr = atr
        self.applets = applets
        self._current: Applet | None = None
        self._chained = b""
        self._left = b""

    def reset(self) -> None:
        if self._current is not None:
            self._current.deselect()
        self._current, self._chained, self._left = None, b"", b""

    def transmit(self, raw: bytes) -> bytes:
        try:
            return self._perform(Command.parse(raw))
        except Refused as refusal:
            self._chained = b""
            return refusal.status.to_bytes(2, "big")
        except ValueError:
            self._chained = b""
            return WRONG_DATA.to_bytes(2, "big")

    def _perform(self, command: Command) -> bytes:
        if command.ins == _GET_RESPONSE:
            if not self._left:
                raise Refused(CONDITIONS)
            return self._answer(self._left, command.expected)
        self._left = b""
        if command.cla & _CHAINED:
            self._chained += command.data
            if len(self._chained) > _MOST_CHAINED:
                raise Refused(WRONG_LENGTH)
            return OK.to_bytes(2, "big")
        data, self._chained = self._chained + command.data, b""
        whole = Command(command.cla, command.ins, command.p1, command.p2, data, command.expected)
        if whole.ins == _SELECT and whole.p1 == _SELECT_BY_NAME:
            return self._answer(self._select(whole.data), whole.expected)
        if self._current is None:
            raise Refused(NO_INSTRUCTION)
        try:
            return self._answer(self._current.process(whole), whole.expected)
        except StillBusy as busy:
            return busy.data + STILL_BUSY.to_bytes(2, "big")

    def _select(self, name: bytes) -> bytes:
        for applet in self.applets:
            if len(name) >= 5 and applet.aid.startswith(name):
                if self._current is not applet:
                    if self._current is not None:
                        self._current.deselect()
                    self._current = applet
                return applet.select()
        raise Refused(NOT_FOUND)

    def _answer(self, data: bytes, expected: int) -> bytes:
        now, self._left = data[:expected], data[expected:]
        if not self._left:
            return now + OK.to_bytes(2, "big")
        return now + bytes((0x61, min(len(self._left), 256) & 0xFF))
