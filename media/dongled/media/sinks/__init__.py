"""Where a peer's stream goes: pictures, or frames as they were encoded. One sink a file."""

from dongled.media.api import EncodedSink, PictureSink

__all__ = ["EncodedSink", "PictureSink"]
