"""Which codecs may be sealed, each with its rule for what stays clear. One file a codec; none, no frame."""

from __future__ import annotations

from typing import Protocol

from dongled.media.errors import MediaError
from dongled.media.vp8 import Vp8Rule


class CodecRule(Protocol):
    """Where the clear prefix ends. Each raises FrameRejected, ``malformed``."""

    def split(self, frame: bytes) -> tuple[bytes, bytes]:
        """Clear prefix and rest of a frame as the encoder made it; together they are what decodes."""

    def join(self, clear: bytes, sealed: bytes) -> bytes:
        """The bytes to packetize, escaped where the codec needs it."""

    def part(self, wire: bytes) -> tuple[bytes, bytes]:
        """``join`` undone on received bytes: clear prefix and sealed part."""


RULES: dict[str, CodecRule] = {"vp8": Vp8Rule()}


def rule_for(codec: str) -> CodecRule:
    """The codec's rule. Raises MediaError, ``codec-refused``, for a codec without one."""
    rule = RULES.get(codec)
    if rule is None:
        raise MediaError(
            "codec-refused",
            f"no rule says what of a {codec!r} frame may stay clear",
            f"use one of: {', '.join(sorted(RULES))}",
        )
    return rule
