"""What can go wrong in the daemon, each with a stable reason and what to do about it."""

from __future__ import annotations


class AgentError(Exception):
    """The daemon or a command could not do what was asked.

    ``reason`` is a stable short name, ``hint`` says what to do.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint
