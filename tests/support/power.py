"""The power fails while a file is written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest


class PowerCut(BaseException):
    """Nothing runs after it."""


@contextmanager
def power(cut: int) -> Iterator[None]:
    """It fails at that step of those that write files; what was not synced is half there."""
    opened, renamed, sync = Path.open, Path.replace, os.fsync
    unsynced: set[Path] = set()
    steps = itertools.count(1)

    def boundary() -> None:
        if next(steps) == cut:
            for path in unsynced:
                os.truncate(path, path.stat().st_size // 2)
            raise PowerCut

    def open_file(self: Path, mode: str = "r", *rest: Any, **how: Any) -> IO[Any]:
        if mode.startswith("r"):
            return opened(self, mode, *rest, **how)
        boundary()
        file: IO[Any] = opened(self, mode, *rest, **how)
        unsynced.add(self)
        boundary()
        return file

    def rename(self: Path, target: Path) -> Path:
        boundary()
        done = renamed(self, target)
        if self in unsynced:
            unsynced.add(target)
        boundary()
        return done

    def fsync(descriptor: int) -> None:
        boundary()
        sync(descriptor)
        unsynced.discard(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        boundary()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_file)
        patch.setattr(Path, "replace", rename)
        patch.setattr(os, "fsync", fsync)
        yield
