"""The chain's form: one JSON object a line, which has its number and the SHA-256 of the line before.

docs/authorization.md describes it. What a power cut tore is left where it is, and named by the next record
(``torn``, with the SHA-256 of what was left of it), which follows the last whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dongled.agent.errors import AgentError

NOTHING = "0" * 64
HEAD = "audit.head"
MAX_LINE = 16_384  # bytes
SEGMENTS = "audit-*.jsonl"


@dataclass(frozen=True, slots=True)
class Head:
    """The last record: its number, and the hex of its line's SHA-256."""

    number: int = 0
    sha256: str = NOTHING

    def next(self, fields: Mapping[str, Any]) -> tuple[bytes, Head]:
        """The line that follows, newline included, and the head that it makes."""
        record = {"n": self.number + 1, "prev": self.sha256, **fields}
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode()
        return line + b"\n", Head(self.number + 1, digest(line))


def digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def segments(directory: Path) -> list[Path]:
    """The log's files, oldest first."""
    return sorted(directory.glob(SEGMENTS))


def segment_name(first: int) -> str:
    """Of the file whose first record has this number."""
    return f"audit-{first:012}.jsonl"


def read(line: bytes) -> dict[str, Any]:
    """A line's record. Raises ValueError."""
    if len(line) > MAX_LINE:
        raise ValueError("it is too long")
    record = json.loads(line)
    if (
        not isinstance(record, dict)
        or type(record.get("n")) is not int
        or not isinstance(record.get("prev"), str)
    ):
        raise ValueError("it is no record")
    return record


class Broken(AgentError):
    """The chain does not hold; the text says where."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason, text, "compare with a copy, and ask who could write here")


@dataclass(frozen=True, slots=True)
class Verified:
    """``torn``: how many records power cuts took; ``cut``: which records say that others were gone."""

    first: int
    head: Head
    torn: int
    cut: tuple[int, ...]
    known: bool


def verify(files: list[Path], known: str | None = None) -> Verified:
    """Check the files, oldest first, as one chain. Each step finds one thing:

    1. a line that is no record, unless the record after it names it as torn;
    2. a record changed, put in, taken out or moved: its number and ``prev`` do not follow.

    ``known`` is the hash of a record that somebody wrote down elsewhere: without one, a chain written anew
    from some record on looks like any other. Raises Broken.
    """
    lines = list(_lines(files))
    # In the last file that is what a power cut left, and nobody has named yet.
    torn = sum(bool(path.read_bytes().rpartition(b"\n")[2]) for path in files[-1:])
    head: Head | None = None
    first, found = 0, known is None
    cut: list[int] = []
    for at, (where, line) in enumerate(lines):
        # 1.
        if at + 1 < len(lines) and _names(lines[at + 1][1], line):
            torn += 1
            continue
        try:
            record = read(line)
        except (ValueError, RecursionError):
            raise Broken("audit-garbage", f"{where}: no record, and none names it as torn") from None
        # 2.
        if head is None:
            head, first = Head(record["n"] - 1, record["prev"]), record["n"]
            if first == 1 and record["prev"] != NOTHING:
                raise Broken("audit-chain", f"{where}: the first record follows another")
        if record["n"] != head.number + 1 or record["prev"] != head.sha256:
            raise Broken("audit-chain", f"{where}: it does not follow record {head.number}")
        head = Head(record["n"], digest(line))
        cut += [head.number] if record.get("event") == "cut" else []
        found = found or head.sha256 == known
    return Verified(first, head or Head(), torn, tuple(cut), found)


def _lines(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Whole lines, with where they are. Raises Broken where a file but the last ends within one."""
    for path in files:
        *lines, tail = path.read_bytes().split(b"\n")
        if tail and path != files[-1]:
            raise Broken("audit-garbage", f"{path.name}: it ends in the middle of a line")
        yield from ((f"{path.name}, line {number}", line) for number, line in enumerate(lines, 1))


def _names(line: bytes, torn: bytes) -> bool:
    """Does this record say that the line before it was torn?"""
    try:
        record = read(line)
    except (ValueError, RecursionError):
        return False
    return record.get("event") == "torn" and record.get("sha256") == digest(torn)


def load_head(directory: Path) -> Head | None:
    """The head that was kept beside the log, None where none was. Raises Broken."""
    try:
        kept = json.loads((directory / HEAD).read_bytes()[:1000])
        return Head(int(kept["n"]), str(kept["sha256"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise Broken("audit-head", f"{directory / HEAD} cannot be read: {error}") from None


def verify_directory(directory: Path, known: str | None = None) -> Verified:
    """Check the log in ``directory``, and that it ends where its kept head says. Raises Broken."""
    verified, kept = verify(segments(directory), known), load_head(directory)
    if kept is not None and kept.number > verified.head.number:
        raise Broken(
            "audit-cut",
            f"it ends with record {verified.head.number}, {kept.number} was written: the end is gone",
        )
    # A power cut may leave one record behind the kept head, which has to be there itself.
    held = kept is None or kept.number < verified.first or verify(segments(directory), kept.sha256).known
    if kept is not None and not held:
        raise Broken("audit-chain", f"record {kept.number} is not the one that was written")
    return verified
