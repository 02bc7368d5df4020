"""Where a token's PIN comes from: a file, a systemd credential, or somebody who is asked."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dongled.tokens.errors import TokenError

MAX_PIN_BYTES = 255
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,255}")


class Pin:
    """A PIN that shows itself to nobody but ``reveal()``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value:
            raise TokenError("pin-empty", "the PIN is empty", "put the PIN into its file or credential")
        if len(value.encode("utf-8", "replace")) > MAX_PIN_BYTES or not value.isprintable():
            raise TokenError(
                "pin-malformed",
                f"the PIN is longer than {MAX_PIN_BYTES} bytes or holds a control character",
                "a PIN is one line of text, with or without a newline at its end",
            )
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Pin(…)"

    def __reduce__(self) -> str:
        raise TypeError("a PIN is not to be copied or stored")


class PinSource(Protocol):
    """Where to get the PIN, each time a token has to be unlocked."""

    @property
    def description(self) -> str:
        """What to call this source in an error; never the PIN."""

    @property
    def attended(self) -> bool:
        """Will somebody be asked for the next ``read``, and answer for it?"""

    def version(self) -> tuple[str, ...]:
        """What tells this PIN from an earlier one of this source, without being it. Raises TokenError.

        A PIN that the token refused is not tried again until this changes.
        """

    def read(self) -> Pin:
        """The PIN. May block. Raises TokenError."""


class PinFile:
    """A PIN in a file that nobody but its owner can read."""

    attended = False

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def description(self) -> str:
        return f"file {self._path}"

    def version(self) -> tuple[str, ...]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise self._unreadable(error) from None
        return ("file", str(self._path.absolute()), str(status.st_mtime_ns), str(status.st_size))

    def read(self) -> Pin:
        return Pin(_first_line(self._open_checked()))

    def _open_checked(self) -> bytes:
        try:
            # Not blocking, so that a FIFO in the file's place holds nobody up.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            self._check(os.fstat(descriptor))
            # One byte more than a PIN and its line ending, to tell a longer one.
            return os.read(descriptor, MAX_PIN_BYTES + 3)
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise TokenError(
                "pin-file", f"{self._path} is not a regular file", "give the PIN in a regular file"
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise TokenError(
                "pin-file-exposed",
                f"{self._path} can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod 600 {self._path}, and change the PIN if somebody may have read it",
            )
        if status.st_uid not in (0, os.geteuid()):
            raise TokenError(
                "pin-file-owner",
                f"{self._path} belongs to another user (uid {status.st_uid})",
                "make the user that runs dongled its owner",
            )

    def _unreadable(self, error: OSError) -> TokenError:
        return TokenError(
            "pin-file",
            f"cannot read the PIN from {self.description}: {error.strerror}",
            "check the path and who may read it",
        )


class PinCredential(PinFile):
    """A PIN that systemd passed with LoadCredential= or LoadCredentialEncrypted= (systemd.exec(5))."""

    def __init__(self, name: str) -> None:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not _CREDENTIAL_NAME.fullmatch(name) or name in (".", ".."):
            raise TokenError("pin-credential", f"{name!r} is not a credential's name", "give its name alone")
        if not directory:
            raise TokenError(
                "pin-credential",
                f"systemd passed no credentials to this process, so there is no {name!r}",
                f"start dongled as a unit with LoadCredential={name}:PATH, or name a PIN file",
            )
        super().__init__(Path(directory) / name)
        self._name = name

    def version(self) -> tuple[str, ...]:
        # systemd writes it anew at each start of the service, so its time tells nothing.
        _, _, _, size = super().version()
        return ("credential", self._name, size)

    @property
    def description(self) -> str:
        return f"systemd credential {self._name}"

    def _check(self, status: os.stat_result) -> None:
        # systemd lets the service's user in by an ACL, whose mask shows as permissions of the group.
        if not stat.S_ISREG(status.st_mode):
            raise TokenError("pin-credential", f"{self.description} is not a regular file")


class PinPrompt:
    """A PIN that somebody is asked for, once; it is kept in memory to unlock the token again."""

    def __init__(self, ask: Callable[[], str], description: str = "the prompt") -> None:
        self._ask = ask
        self._description = description
        self._answer: Pin | None = None
        self._serial = secrets.token_hex(8)

    @property
    def description(self) -> str:
        return self._description

    @property
    def attended(self) -> bool:
        return self._answer is None

    def version(self) -> tuple[str, ...]:
        return ("prompt", self._serial)

    def read(self) -> Pin:
        if self._answer is None:
            self._answer = Pin(self._ask())
        return self._answer


class NoPin:
    """For tokens that let anybody in who has them. Nothing is read, nor tried."""

    attended = False
    description = "no PIN"

    def version(self) -> tuple[str, ...]:
        return ("none",)

    def read(self) -> Pin:
        raise TokenError("pin-none", "the token is configured to have no PIN", "name where its PIN is")


def _first_line(content: bytes) -> str:
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise TokenError("pin-malformed", "the PIN is not UTF-8 text", "write it as plain text") from None
