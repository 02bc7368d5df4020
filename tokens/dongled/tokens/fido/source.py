"""A PIN that an enrolled FIDO2 key unseals when it is touched."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import keys
from dongled.tokens.fido.keys import UNLOCK_RP, Person
from dongled.tokens.fido.vault import Sealed, Vault
from dongled.tokens.pin import Pin


class FidoPin:
    """A ``PinSource``. ``told`` is called when the key waits for a touch, from the thread that waits.

    ``serial`` is the token's. What was unsealed is kept in memory, to unlock the token again.
    """

    # A touch says that somebody is there, not that the PIN is the right one.
    attended = False

    def __init__(self, vault: Vault, serial: str, told: Callable[[], None]) -> None:
        self._vault = vault
        self._serial = serial
        self._told = told
        self._entry: Sealed | None = None
        self._opened: tuple[Sealed, Pin] | None = None
        self._waiting = threading.Event()
        self._key_pin: Callable[[], Pin] | None = None
        # For the next unlocking alone, so that a wrong one is tried once.
        self.key_pin: Callable[[], Pin] | None = None

    @property
    def description(self) -> str:
        return f"FIDO2 key {self._entry.name}" if self._entry else f"FIDO2 keys of {self._vault.path}"

    def version(self) -> tuple[str, ...]:
        """Of the entry whose key is there: one that was enrolled with a wrong PIN stops no other."""
        self._key_pin, self.key_pin = self.key_pin, None
        self._waiting = threading.Event()
        entries = self._vault.of_token(self._serial)
        if self._opened is None or self._opened[0] not in entries:
            self._opened = None
            credential = keys.present(UNLOCK_RP, [entry.credential for entry in entries])
            self._entry = next(entry for entry in entries if entry.credential == credential)
        else:
            self._entry = self._opened[0]
        return ("fido", self._entry.name, self._entry.nonce.hex())

    def read(self) -> Pin:
        if self._entry is None:
            self.version()
        entry = self._entry
        assert entry is not None
        if self._opened is None:
            person = Person(self._told, self._key_pin, self._waiting)
            self._opened = entry, unseal(entry, self._serial, person)
        return self._opened[1]

    def cancel(self) -> None:
        """Wait for a touch no longer, nor begin to in the attempt that is being made."""
        self._waiting.set()


def unseal(entry: Sealed, serial: str, person: Person) -> Pin:
    """Have the key touched, and open what was sealed for it. Raises TokenError."""
    done = keys.assertion(
        UNLOCK_RP, [entry.credential], entry.salt, person, verified=entry.verified, salt=entry.salt
    )
    if done.verified is not entry.verified or done.secret is None:
        raise TokenError(
            "fido-verification",
            f"{entry.name} {'no longer verifies' if entry.verified else 'now verifies'} its user",
            "enroll it again",
        )
    return entry.open(done.secret, serial)
