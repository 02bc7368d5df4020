"""A log handler that speaks journald's native protocol. https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import logging
import os
import re
import select
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "dongled"
# A large message is not worth losing the small ones for.
MOST = 1 << 18  # characters
# What a stream takes at once that polls as writable.
MOST_ASIDE = 1 << 13  # characters

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# syslog(3)
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def is_our_stderr(environ: Mapping[str, str] = os.environ) -> bool:
    """Did the service manager connect standard error to the journal (systemd.exec(5), $JOURNAL_STREAM)?"""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def encode(fields: Mapping[str, str]) -> bytes:
    """Fields as a datagram. A value with a line break goes by length, so that it can begin no other field."""
    parts = []
    for name, text in fields.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no field's name")
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            parts.append(name.encode() + b"=" + value + b"\n")
    return b"".join(parts)


class JournalHandler(logging.Handler):
    """Sends each record as one entry. What the journal does not take goes to standard error,
    as far as that takes it without waiting.

    A record's ``journal`` (``logs.events.about``) adds its fields.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        super().__init__()
        self._path = str(path)
        # Not blocking: a journal that hangs must not take the meeting with it.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(encode(self._fields(record)))
        except OSError:
            _aside(f"<{_priority(record)}>{self.format(record)}"[:MOST_ASIDE])
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        return {
            "MESSAGE": self.format(record)[:MOST],
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "LOGGER": record.name,
            **getattr(record, "journal", {}),
        }

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(datagram)

    def _send_file(self, datagram: bytes) -> None:
        """What no datagram carries travels in a sealed file of memory."""
        file = os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            os.write(file, datagram)
            fcntl.fcntl(
                file,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL,
            )
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
            self._socket.sendmsg([], passed, 0, self._path)
        finally:
            os.close(file)


def _aside(text: str) -> None:
    """On standard error (sd-daemon(3)), or nowhere: it may be a stream to a journal that hangs or is gone."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            print(text, file=sys.stderr)  # noqa: T201


def _priority(record: logging.LogRecord) -> int:
    return next((priority for level, priority in _PRIORITIES if record.levelno >= level), 7)
