"""What a lab's authority has issued and revoked: a JSON file that its operator keeps.

Revoked certificates stay on the list for good. It holds no secret; losing it loses who was revoked.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from dongled.agent.certificates.authority import CaError

MAX_SIZE = 16 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """``serial`` in hexadecimal, ``until`` in ISO 8601."""

    serial: str
    terminal: str
    kind: str
    until: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """``reason`` as RFC 5280, 5.3.1 spells it, ``at`` in ISO 8601."""

    serial: str
    reason: str
    at: str


@dataclass(slots=True)
class Register:
    """``root`` is the SHA-256 of the authority's root, ``number`` the latest CRL's."""

    root: str
    number: int = 0
    issued: list[Issued] = field(default_factory=list)
    revoked: list[Revoked] = field(default_factory=list)

    def add(self, certificate: x509.Certificate, terminal: str, kind: str) -> None:
        until = certificate.not_valid_after_utc.isoformat()
        self.issued.append(Issued(f"{certificate.serial_number:x}", terminal, kind, until))

    def serials_of(self, terminal: str) -> list[int]:
        """Those of a terminal's certificates. Raises CaError where none was issued."""
        found = [int(each.serial, 16) for each in self.issued if each.terminal == terminal]
        if not found:
            raise CaError(
                "not-issued",
                f"no certificate of {terminal} is in the register",
                "give its --certificate instead, and --register to every `ca issue`",
            )
        return found

    def revoke(self, serial: int, reason: str, now: datetime) -> bool:
        """False: it was revoked before, and stays so for the reason given then."""
        text = f"{serial:x}"
        if any(each.serial == text for each in self.revoked):
            return False
        self.revoked.append(Revoked(text, reason, now.astimezone(UTC).isoformat(timespec="seconds")))
        return True


@contextmanager
def opened(path: Path, root: x509.Certificate) -> Iterator[Register]:
    """The register at ``path``, made if it is not there; saved, whole, unless something is raised.

    Nobody else changes it meanwhile. Raises CaError ``register``, ``wrong-root``.
    """
    digest = root.fingerprint(SHA256()).hex()
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            register = _load(path) or Register(digest)
            if register.root != digest:
                raise CaError(
                    "wrong-root", f"{path} is the register of another root", "keep one register for each root"
                )
            yield register
            _save(path, register, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise CaError("register", f"{path}: {error.strerror}", "check the path") from error


def _load(path: Path) -> Register | None:
    try:
        with path.open("rb") as file:
            tree = json.loads(file.read(MAX_SIZE))
        register = Register(
            str(tree["root"]),
            int(tree["number"]),
            [Issued(**each) for each in tree["issued"]],
            [Revoked(**each) for each in tree["revoked"]],
        )
        for entry in register.revoked:
            _ = (int(entry.serial, 16), datetime.fromisoformat(entry.at), x509.ReasonFlags(entry.reason))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        # Starting anew would forget who was revoked.
        raise CaError("register", f"{path} is not a register: {error}", "restore it from a copy") from error
    return register


def _save(path: Path, register: Register, directory: int) -> None:
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        json.dump(asdict(register), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    os.fsync(directory)
