"""Files that commands are told to read and to write; errors say what to do."""

from __future__ import annotations

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
