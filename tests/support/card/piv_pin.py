"""A PIN or PUK with its retry counter (NIST SP 800-73-4, part 2, 2.4.3)."""

from __future__ import annotations

import hmac

from support.card import apdu
from support.card.apdu import Refused

_LENGTH = 8
_DEFAULTS = (b"123456\xff\xff", b"12345678")


class Reference:
    """``left`` tries of ``most``. At zero it is blocked until it is set anew."""

    def __init__(self, value: str, tries: int) -> None:
        self.most = self.left = tries
        self._value = value.encode().ljust(_LENGTH, b"\xff")

    @property
    def default(self) -> bool:
        return self._value in _DEFAULTS

    def verify(self, given: bytes) -> None:
        if self.left == 0:
            raise Refused(apdu.BLOCKED)
        if len(given) != _LENGTH:
            raise Refused(apdu.WRONG_DATA)
        if not hmac.compare_digest(given, self._value):
            self.left -= 1
            self.refuse()
        self.left = self.most

    def refuse(self) -> None:
        """Say how many tries are left."""
        raise Refused(apdu.BLOCKED if self.left == 0 else 0x63C0 | min(self.left, 15))

    def set(self, value: bytes) -> None:
        digits = value.rstrip(b"\xff")
        if len(value) != _LENGTH or len(digits) < 6 or b"\xff" in digits:
            raise Refused(apdu.WRONG_DATA)
        self._value = value
        self.left = self.most
