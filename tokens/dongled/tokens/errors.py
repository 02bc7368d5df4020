"""What can go wrong with a token, each with a stable reason and what to do about it."""

from __future__ import annotations


class TokenError(Exception):
    """A token, its module or its reader could not do what was asked.

    ``reason`` is a stable short name (``pin-wrong``, ``token-absent``), ``hint`` says what to do.
    Neither ever holds a PIN.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint
