"""How untrusted bytes are turned away inside the machine: one exception, never seen outside it."""

from __future__ import annotations


class Refusal(Exception):
    """A message was refused. ``reason`` is one of docs/protocol.md's names, ``detail`` is for operators.

    Neither ever holds a secret.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
