"""The FIDO application of a card: CTAP2 messages in APDUs (CTAP 2.1, section 11.3: NFC)."""

from __future__ import annotations

from support.card import apdu
from support.card.apdu import Command, Refused, StillBusy
from support.card.fido_authenticator import Authenticator, TouchWanted
from support.card.fido_errors import Status

# 11.3.3, and what it answers to SELECT where it has no U2F.
AID = bytes.fromhex("A0000006472F0001")
_VERSION = b"FIDO_2_0"

_TELLS_STATUS, _CANCEL = 0x80, 0x11
_TOUCH_WANTED = b"\x02"
# 11.3.7: the host asks ten times a second, and a key blinks for half a minute.
_MOST_ASKED = 300


class FidoApplet:
    """While it waits for a touch it answers 9100 and a status, to hosts that understand that."""

    aid = AID

    def __init__(self, authenticator: Authenticator) -> None:
        self.authenticator = authenticator
        self._waiting = b""
        self._asked = 0

    def select(self) -> bytes:
        return _VERSION

    def deselect(self) -> None:
        self._waiting = b""
        self.authenticator.powered_off()

    def process(self, command: Command) -> bytes:
        if command.cla != 0x80:
            raise Refused(apdu.NO_INSTRUCTION)
        match command.ins:
            case 0x10:
                self._waiting, self._asked = command.data, 0
                return self._perform(tells_status=bool(command.p1 & _TELLS_STATUS))
            case 0x11 if not self._waiting:
                raise Refused(apdu.CONDITIONS)
            case 0x11 if command.p1 == _CANCEL:
                return self._end(Status.KEEPALIVE_CANCEL)
            case 0x11:
                self._asked += 1
                return self._perform(tells_status=True)
            case _:
                raise Refused(apdu.NO_INSTRUCTION)

    def _perform(self, *, tells_status: bool) -> bytes:
        try:
            answer = self.authenticator.perform(self._waiting)
        except TouchWanted:
            if not tells_status or self._asked > _MOST_ASKED:
                return self._end(Status.USER_ACTION_TIMEOUT)
            raise StillBusy(_TOUCH_WANTED) from None
        self._waiting = b""
        return answer

    def _end(self, status: Status) -> bytes:
        self._waiting = b""
        self.authenticator.touch.asked.clear()
        return bytes((status,))
