"""The log on the disk: appended and synced record by record, in files of a bounded size."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dongled.agent.audit.chain import HEAD, Head, digest, load_head, read, segment_name, segments
from dongled.agent.errors import AgentError


class AuditFile:
    """Not thread-safe. ``most``: bytes of a file before the next is begun; ``keep``: how many there may be.

    Raises AgentError ``audit-held`` while another process writes here, ``audit-unwritable`` where it cannot
    be written, Broken where the kept head cannot be read.
    """

    def __init__(self, directory: Path, *, most: int, keep: int) -> None:
        self._directory, self._most, self._keep = directory, most, keep
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "audit.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(directory, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.head, self._found = self._resume()
        except BlockingIOError:
            os.close(self._lock)
            raise AgentError(
                "audit-held", f"another process writes the audit log in {directory}", "give each a directory"
            ) from None
        except OSError as error:
            os.close(self._lock)
            raise _unwritable(directory, error) from None

    def close(self) -> None:
        os.close(self._lock)

    def append(self, fields: Mapping[str, Any]) -> None:
        """Write and sync one record. Raises AgentError ``audit-unwritable``, and then nothing was written."""
        try:
            while self._found:
                self._write({"time": fields["time"], **self._found[0]})
                self._found.pop(0)
            self._write(fields)
        except OSError as error:
            raise _unwritable(self._directory, error) from None

    def _write(self, fields: Mapping[str, Any]) -> None:
        line, head = self.head.next(fields)
        path = self._current(len(line), head.number)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, line)
                if written < len(line):
                    raise OSError(28, "no space left on the device")
                os.fsync(descriptor)
                self._keep_head(head)
            except OSError:
                # Half a record would tear the chain, a whole one would come twice: as if never begun.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self.head = head

    def _current(self, size: int, number: int) -> Path:
        files = segments(self._directory)
        if files and (files[-1].stat().st_size + size <= self._most or not files[-1].stat().st_size):
            return files[-1]
        for old in files[: max(0, len(files) - self._keep + 1)]:
            old.unlink()
        return self._directory / segment_name(number)

    def _keep_head(self, head: Head) -> None:
        new = self._directory / f"{HEAD}.new"
        with new.open("w") as file:
            json.dump({"n": head.number, "sha256": head.sha256}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._directory / HEAD)
        # Its name, and that of a file that was begun with this record.
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _resume(self) -> tuple[Head, list[dict[str, Any]]]:
        """Where the log ends, and what is to be said of how it was found."""
        files, kept = segments(self._directory), load_head(self._directory) or Head()
        *lines, tail = files[-1].read_bytes().split(b"\n") if files else [b""]
        found: list[dict[str, Any]] = []
        if tail:
            # The rest of it stays, on a line of its own.
            with files[-1].open("ab") as file:
                file.write(b"\n")
        elif lines and not _is_record(lines[-1]):
            # That was done, and then the power failed again.
            tail = lines.pop()
        if tail:
            found.append({"event": "torn", "bytes": len(tail), "sha256": digest(tail)})
        whole = next((line for line in reversed(lines) if _is_record(line)), None)
        last = kept if whole is None else Head(read(whole)["n"], digest(whole))
        # A record is written before the head: a head without its record tells of one that was taken away.
        if kept.number and (
            whole is None or kept.number > last.number or (kept.number == last.number and kept != last)
        ):
            found.append({"event": "cut", "number": kept.number, "sha256": kept.sha256})
        return last, found


def _is_record(line: bytes) -> bool:
    try:
        read(line)
    except (ValueError, RecursionError):
        return False
    return True


def _unwritable(directory: Path, error: OSError) -> AgentError:
    return AgentError(
        "audit-unwritable",
        f"the audit log in {directory} cannot be written: {error.strerror or error}",
        "is the disk full, or the directory another user's?",
    )
