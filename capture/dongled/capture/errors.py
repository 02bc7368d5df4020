"""What can go wrong with a picture source, each with a stable reason and what to do about it."""

from __future__ import annotations


class CaptureError(Exception):
    """A source could not be opened, or is gone.

    ``reason`` is a stable short name (``camera-absent``, ``ended``), ``hint`` says what to do.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint
