"""What can go wrong with media, each with a stable reason and what to do about it."""

from __future__ import annotations


class MediaError(Exception):
    """Encoding, sealing, transport or a sink failed.

    ``reason`` is a stable short name, ``hint`` says what to do.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


class FrameRejected(MediaError):
    """A received frame was dropped: ``reason`` is what it is counted under."""
