"""Where ``dongled view`` puts what it sees."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dongled.agent.errors import AgentError
from dongled.agent.meetings.streams import Sinks
from dongled.media.api import EncodedSink, PictureSink
from dongled.media.sinks import LiveSink, MkvSink, NullSink, PngSink
from dongled.media.sinks.lasting import free_name
from dongled.media.sinks.live import refuse_terminal
from dongled.media.sinks.mkv import refuse_existing

SNAPSHOT_EVERY = 1.0


class ViewSinks:
    """One player shows one stream: the first that comes has the outputs, any other is only counted."""

    def __init__(
        self,
        output: str | None,
        record: Path | None,
        snapshot: Path | None,
        terminal: str | None,
        stream: str | None,
    ) -> None:
        """``output`` is a file or ``-``. Raises MediaError, AgentError."""
        if record is not None:
            refuse_existing(record)
        self._record = record
        self._snapshot = snapshot
        self._terminal = terminal
        self._stream = stream
        self._output = None if output is None else _descriptor(output)
        if self._output is not None:
            refuse_terminal(self._output)
        self._taken: tuple[str, str] | None = None

    def wants(self, terminal: str, stream: str) -> bool:
        """Whether the command line left this stream in."""
        return self._terminal in (None, terminal) and self._stream in (None, stream)

    def make(self, terminal: str, stream: str) -> Sinks:
        # The same stream may come again, after its terminal or this one has rejoined.
        if self._taken not in (None, (terminal, stream)):
            return Sinks([NullSink()])
        again, self._taken = self._taken is not None, (terminal, stream)
        pictures: list[PictureSink] = [PngSink(self._snapshot, SNAPSHOT_EVERY)] if self._snapshot else []
        encoded: list[EncodedSink] = []
        if self._output is not None:
            encoded.append(LiveSink(self._output))
        if self._record is not None:
            encoded.append(MkvSink(free_name(self._record) if again else self._record))
        return Sinks(pictures, encoded)


def _descriptor(output: str) -> int:
    if output == "-":
        return sys.stdout.fileno()
    try:
        # For as long as the process lives; what is shown there is for its owner alone.
        return os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AgentError(
            "output-failed", f"cannot write {output}: {error.strerror}", "check the path"
        ) from None
