"""Recording to a Matroska file, without encoding again."""

from __future__ import annotations

import os
from pathlib import Path

from dongled.media.errors import MediaError
from dongled.media.sinks.matroska import MatroskaWriter


def refuse_existing(path: Path) -> None:
    """Before there is anything to record. Raises MediaError, ``output-exists``."""
    if os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> MediaError:
    return MediaError(
        "output-exists", f"{path} exists already", "name another file: no recording is overwritten"
    )


class MkvSink:
    """Writes a new file, readable by its owner alone. Cut off anywhere, it plays up to the last second."""

    def __init__(self, path: Path) -> None:
        """Raises MediaError: ``output-exists``, ``output-failed``."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise _exists(path) from error
        except OSError as error:
            raise MediaError("output-failed", f"cannot write {path}: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "wb")
        self._writer = MatroskaWriter(self._file, live=False)

    def write(self, data: bytes, timestamp: float, keyframe: bool) -> bool:
        self._writer.write(data, timestamp, keyframe)
        return False

    def close(self) -> None:
        self._writer.close()
        self._file.close()
