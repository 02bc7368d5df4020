"""Where a peer's stream goes: pictures, or frames as they were encoded. One sink a file."""

from dongled.media.api import EncodedSink, PictureSink
from dongled.media.sinks.live import LiveSink
from dongled.media.sinks.mkv import MkvSink
from dongled.media.sinks.null import NullSink
from dongled.media.sinks.png import PngSink

__all__ = ["EncodedSink", "LiveSink", "MkvSink", "NullSink", "PictureSink", "PngSink"]
