"""A token's PIN, sealed once for each FIDO2 key that may unlock it: the file `token.pin-fido` names.

AES-256-GCM under HKDF-SHA-256 (RFC 5869) of the key's hmac-secret. What is authenticated with it: the token's
serial number, the credential, and whether the key has to know its user; so an entry opens nothing else.
A PIN is padded, so that the file does not tell its length.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dongled.tokens.errors import TokenError
from dongled.tokens.owner import give_away
from dongled.tokens.pin import MAX_PIN_BYTES, Pin

FORMAT = 1
MOST_KEYS = 16
SECRET_BYTES = 32
_MOST_BYTES = 1 << 16
_NONCE_BYTES = 12
_INFO, _PURPOSE = b"dongled/1 unlock", "dongled/1 pin"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Sealed:
    """``serial`` is the token's; ``verified``: the secret is that of a key which knew its user."""

    name: str
    serial: str
    credential: bytes
    salt: bytes
    verified: bool
    nonce: bytes
    sealed: bytes

    def open(self, secret: bytes, serial: str) -> Pin:
        """``serial`` as the token itself says it. Raises TokenError."""
        try:
            padded = AESGCM(_key(secret)).decrypt(self.nonce, self.sealed, self._bound_to(serial))
        except InvalidTag:
            raise TokenError(
                "fido-sealed-elsewhere",
                f"the PIN that was sealed for {self.name} does not open: it is another token's, or damaged",
                "`dongled token unlock enroll` seals it anew",
            ) from None
        return Pin(padded[1 : 1 + padded[0]].decode())

    def _bound_to(self, serial: str) -> bytes:
        return cbor2.dumps([_PURPOSE, serial, self.credential, self.salt, self.verified], canonical=True)


def seal(
    name: str, serial: str, credential: bytes, salt: bytes, *, verified: bool, secret: bytes, pin: Pin
) -> Sealed:
    """Seal a PIN under the 32-byte secret that the key gave for ``salt``."""
    blank = Sealed(name, serial, credential, salt, verified, secrets.token_bytes(_NONCE_BYTES), b"")
    plain = pin.reveal().encode()
    padded = bytes((len(plain),)) + plain.ljust(MAX_PIN_BYTES, b"\0")
    sealed = AESGCM(_key(secret)).encrypt(blank.nonce, padded, blank._bound_to(serial))
    return Sealed(name, serial, credential, salt, verified, blank.nonce, sealed)


def _key(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise TokenError("fido-fault", "the FIDO2 key gave a secret of the wrong size", "take another key")
    return HKDF(hashes.SHA256(), 32, None, _INFO).derive(secret)


class Vault:
    """The file. What is wrong with it unlocks nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Sealed]:
        """Raises TokenError where the file is not there, or is none of ours."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise TokenError(
                "fido-not-enrolled",
                f"no FIDO2 key is enrolled in {self.path}",
                "`dongled token unlock enroll` does that",
            ) from None
        except OSError as error:
            raise TokenError(
                "fido-file",
                f"cannot read {self.path}: {error.strerror}",
                "check the path and who may read it",
            ) from None
        try:
            return _parsed(data)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise TokenError(
                "fido-file", f"{self.path} is damaged", "remove it and enroll the keys again"
            ) from None

    def of_token(self, serial: str) -> list[Sealed]:
        """Raises TokenError where there is none."""
        found = [entry for entry in self.entries() if entry.serial == serial]
        if not found:
            raise TokenError(
                "fido-not-enrolled",
                f"no FIDO2 key is enrolled for the token {serial}",
                "`dongled token unlock enroll` does that",
            )
        return found

    def write(self, entries: Sequence[Sealed]) -> None:
        """Raises TokenError."""
        keys = [{name: _text(value) for name, value in asdict(entry).items()} for entry in entries]
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                self._as_before(file.fileno())
                json.dump({"format": FORMAT, "keys": keys}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise TokenError(
                "fido-file", f"cannot write {self.path}: {error.strerror}", "check the directory"
            ) from None

    def _as_before(self, descriptor: int) -> None:
        """The daemon's user may have to read what root writes. Raises OSError."""
        try:
            status = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return give_away(descriptor, self.path.parent)
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o770)
        return None


def _text(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _parsed(data: bytes) -> list[Sealed]:
    """Raises ValueError, TypeError, LookupError or AttributeError."""
    content = json.loads(data) if len(data) <= _MOST_BYTES else {}
    if content["format"] != FORMAT or len(content["keys"]) > MOST_KEYS:
        raise ValueError
    entries = [_entry(**fields) for fields in content["keys"]]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError
    return entries


def _entry(
    name: str, serial: str, credential: str, salt: str, verified: bool, nonce: str, sealed: str
) -> Sealed:
    if not NAME.fullmatch(name) or not isinstance(serial, str) or not isinstance(verified, bool):
        raise ValueError
    entry = Sealed(
        name, serial, _octets(credential), _octets(salt), verified, _octets(nonce), _octets(sealed)
    )
    if len(entry.salt) != SECRET_BYTES or len(entry.nonce) != _NONCE_BYTES or not entry.credential:
        raise ValueError
    return entry


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None
