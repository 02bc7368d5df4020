"""What of a VP8 frame stays clear, so that an SFU finds key frames (RFC 6386).

https://www.rfc-editor.org/rfc/rfc6386, 9.1: a frame starts with a 3-byte tag whose lowest bit is 0 on a key
frame; there a start code and the dimensions follow, 10 bytes in all.
"""

from __future__ import annotations

from dongled.media.errors import FrameRejected

KEY_PREFIX = 10
"""Clear bytes of a key frame: tag, start code, width and height."""

DELTA_PREFIX = 1
"""Clear bytes of any other frame: the first of the tag, with the bit that says so."""

_START_CODE = b"\x9d\x01\x2a"


def is_key_frame(frame: bytes) -> bool:
    """Whether a frame, sealed or not, says that it is a key frame."""
    return bool(frame) and not frame[0] & 0x01


def clear_size(frame: bytes) -> int:
    """How many bytes of the frame are clear: 10 or 1. Raises FrameRejected, ``malformed``."""
    if not frame:
        raise FrameRejected("malformed", "empty VP8 frame")
    # RFC 6386, 9.1: three version bits, of which 0 to 3 are defined
    if frame[0] >> 1 & 0x07 > 3:
        raise FrameRejected("malformed", "unknown VP8 version")
    if not is_key_frame(frame):
        return DELTA_PREFIX
    if len(frame) < KEY_PREFIX:
        raise FrameRejected("malformed", "VP8 key frame cut short")
    if frame[3:6] != _START_CODE:
        raise FrameRejected("malformed", "VP8 key frame without its start code")
    width, height = (int.from_bytes(frame[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    if not (width and height):
        raise FrameRejected("malformed", "VP8 key frame without a size")
    return KEY_PREFIX


class Vp8Rule:
    """VP8 needs no escaping: whatever follows the clear prefix may be any bytes."""

    def split(self, frame: bytes) -> tuple[bytes, bytes]:
        """Clear prefix and rest of a frame from the encoder."""
        return self.part(frame)

    def join(self, clear: bytes, sealed: bytes) -> bytes:
        """The bytes to packetize."""
        return clear + sealed

    def part(self, wire: bytes) -> tuple[bytes, bytes]:
        """Clear prefix and sealed part of received bytes."""
        size = clear_size(wire)
        if len(wire) == size:
            raise FrameRejected("malformed", "nothing after the clear prefix")
        return wire[:size], wire[size:]
