"""Encoded frames into Matroska as they are: nothing is decoded or encoded again."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import Protocol

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from dongled.media.decoder import picture_size
from dongled.media.errors import MediaError

_MILLISECOND = Fraction(1, 1000)
_BUFFER = 16 * 1024


class Output(Protocol):
    """Where the bytes go. With ``seek`` and ``tell`` besides, the result can be searched in."""

    def write(self, data: bytes) -> int: ...


class MatroskaWriter:
    """One VP8 video, begun at its first key frame, whose size it announces.

    ``live`` writes a frame out when the next one comes (Matroska's muxer cannot sooner), else once a second.
    """

    def __init__(self, output: Output, *, live: bool) -> None:
        self._output = output
        self._options = {"live": "1", "cluster_time_limit": "0"} if live else {"cluster_time_limit": "1000"}
        self._container: OutputContainer | None = None
        self._stream: Stream | None = None
        self._last = -1

    def write(self, data: bytes, timestamp: float, keyframe: bool) -> None:
        """``timestamp`` in seconds, rising. Raises what ``output`` raises, and MediaError."""
        if self._container is None and not keyframe:
            return
        try:
            container, stream = self._begun(data)
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = _MILLISECOND
            self._last = packet.pts = packet.dts = max(self._last + 1, round(timestamp * 1000))
            packet.is_keyframe = keyframe
            container.mux(packet)
        except FFmpegError as error:
            raise MediaError("output-failed", f"the frame could not be written: {error}") from error

    def close(self) -> None:
        """Write what is left. The output stays open; that it is broken has been told by ``write``."""
        if self._container is not None:
            with contextlib.suppress(FFmpegError, OSError):
                self._container.close()
            self._container = None

    def _begun(self, keyframe: bytes) -> tuple[OutputContainer, Stream]:
        if self._container is None or self._stream is None:
            width, height = picture_size(keyframe)
            self._container = av.open(
                self._output, "w", "matroska", container_options=self._options, buffer_size=_BUFFER
            )
            self._stream = self._container.add_mux_stream(
                "vp8", width=width, height=height, time_base=_MILLISECOND
            )
        return self._container, self._stream
