"""Files that commands are told to read and to write; errors say what to do."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def read_file(path: Path) -> bytes:
    """Raises TokenError ``file``."""
    from dongled.tokens.errors import TokenError

    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenError("file", f"cannot read {path}: {error.strerror}", "check the path") from None


def write_file(path: Path, text: str) -> None:
    """Raises TokenError ``file``."""
    from dongled.tokens.errors import TokenError

    try:
        path.write_text(text)
    except OSError as error:
        raise TokenError("file", f"cannot write {path}: {error.strerror}", "check the path") from None


def replace_file(path: Path, text: str) -> None:
    """Write a file that others read meanwhile, whole or not at all. Raises TokenError ``file``.

    One that was there keeps its mode and group, and written by root its owner.
    """
    from dongled.tokens.errors import TokenError

    path = path.resolve()  # A link stays one.
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        with new.open("x") as file:
            with suppress(FileNotFoundError):
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise TokenError("file", f"cannot write {path}: {error.strerror}", "check the path") from None
