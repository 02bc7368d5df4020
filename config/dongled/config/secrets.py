"""Secrets are never settings: the settings name a file or a systemd credential that holds one."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dongled.config.errors import ConfigError

SIZE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Credential:
    """A systemd credential by name: ``$CREDENTIALS_DIRECTORY/NAME`` (systemd.exec(5), Credentials)."""

    name: str


SecretSource = Path | Credential


def read_secret(source: SecretSource, environ: Mapping[str, str] = os.environ) -> str:
    """The secret that a file or credential holds, without one trailing newline.

    At most 4096 bytes of UTF-8, not empty, no NUL. A file must be regular and closed to group and others.
    Raises ConfigError, which names the source and never what is in it.
    """
    if isinstance(source, Path):
        return _read(source, str(source), private=True)
    directory = environ.get("CREDENTIALS_DIRECTORY")
    what = f"credential {source.name}"
    if not directory:
        raise ConfigError(
            "no-credentials",
            f"{what}: no credentials were passed to this process",
            f"start it by systemd with LoadCredential={source.name}:FILE, or use the -file key instead",
        )
    # The directory is private, and systemd may grant a service access by an ACL, which shows in the
    # group bits of the mode: the mode of a credential says nothing.
    return _read(Path(directory) / source.name, what, private=False)


def mode_problem(status: os.stat_result, *, private: bool = True) -> str | None:
    """Why a file with this status must not hold a secret, or None; ``private`` minds its mode."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if private and status.st_mode & 0o077:
        return f"holds a secret and others may use it (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _read(path: Path, what: str, *, private: bool) -> str:
    try:
        # O_NONBLOCK: a FIFO without a writer would hang the open.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(
            "secret-unreadable",
            f"{what}: {error.strerror}",
            "make it readable by the user that dongled runs as, and by nobody else",
        ) from None
    try:
        problem = mode_problem(os.fstat(descriptor), private=private)
        if problem:
            raise ConfigError("secret-exposed", f"{what} {problem}", f"chmod 600 {path}")
        # One read of a regular file gives all that was asked for (read(2)).
        raw = os.read(descriptor, SIZE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(raw) > SIZE_LIMIT:
        raise ConfigError(
            "secret-too-long", f"{what} holds more than {SIZE_LIMIT} bytes", "is it the right one?"
        )
    try:
        secret = raw.decode().removesuffix("\n")
    except UnicodeDecodeError:
        # Not chained: the decoder's error carries the bytes.
        raise ConfigError("secret-malformed", f"{what} is not UTF-8 text", "is it the right one?") from None
    if not secret or "\0" in secret:
        raise ConfigError("secret-malformed", f"{what} is empty or holds a NUL", "write the secret into it")
    return secret
