"""Enrolling a FIDO2 key: from now on it unseals a token's PIN."""

from __future__ import annotations

import secrets

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import keys
from dongled.tokens.fido.keys import SALT_BYTES, UNLOCK_RP, Person
from dongled.tokens.fido.vault import MOST_KEYS, NAME, Sealed, Vault, seal
from dongled.tokens.pin import Pin


def listed(vault: Vault) -> list[Sealed]:
    """The entries, none where there is no file yet. Raises TokenError."""
    return vault.entries() if vault.path.exists() else []


def enroll(
    vault: Vault, name: str, serial: str, pin: Pin, make: Person, use: Person, *, verified: bool
) -> Sealed:
    """Two touches: one makes the credential, one gives its secret. ``pin`` is known to be right.

    An entry of that name for that token is replaced. Raises TokenError.
    """
    if not NAME.fullmatch(name):
        raise TokenError(
            "fido-name", f"{name!r} is no name for a key", "letters, digits, spaces and ._-, up to 32"
        )
    entries = listed(vault)
    kept = [entry for entry in entries if entry.name != name]
    if any(entry.name == name and entry.serial != serial for entry in entries):
        raise TokenError("fido-name", f"{name} unlocks another token", "choose another name")
    if len(kept) == MOST_KEYS:
        raise TokenError("fido-full", f"{MOST_KEYS} keys are enrolled", "`dongled token unlock remove` one")
    known = [entry.credential for entry in kept if entry.serial == serial]
    credential = keys.register(UNLOCK_RP, name, make, verified=verified, known=known, secret=True).credential
    salt = secrets.token_bytes(SALT_BYTES)
    done = keys.assertion(UNLOCK_RP, [credential], salt, use, verified=verified, salt=salt)
    if done.secret is None:
        raise TokenError("fido-unable", "this FIDO2 key gave no secret (hmac-secret)", "take another one")
    # As it is, not as it was asked for: some keys always verify.
    sealed = seal(name, serial, credential, salt, verified=done.verified, secret=done.secret, pin=pin)
    vault.write([*kept, sealed])
    return sealed


def remove(vault: Vault, name: str) -> None:
    """Raises TokenError ``fido-name`` where there is no such entry."""
    entries = vault.entries()
    kept = [entry for entry in entries if entry.name != name]
    if len(kept) == len(entries):
        raise TokenError(
            "fido-name", f"no key {name!r} is enrolled", "`dongled token unlock list` names them"
        )
    vault.write(kept)
