"""The token that holds the long-term keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dongled.config.base import (
    CredentialName,
    FilePath,
    HexBytes,
    Input,
    Sample,
    Section,
    Sha256,
    secret_source,
)
from dongled.config.secrets import SecretSource


class KeyPin(Section):
    """A key on the token, pinned: `dongled token show` prints both values."""

    id: Annotated[HexBytes, Field(description="CKA_ID, in hexadecimal."), Sample("01", active=True)]
    sha256: Annotated[
        Sha256,
        Field(description="SHA-256 of the public key (SubjectPublicKeyInfo), in hexadecimal."),
        Sample("0" * 64, active=True),
    ]
    certificate: Annotated[
        FilePath | None,
        Field(
            description="Certificate and its chain, PEM, leaf first. Without it they are read from the token."
        ),
        Input(),
        Sample("identity.pem"),
    ] = None

    @property
    def cka_id(self) -> bytes:
        return bytes.fromhex(self.id)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo, 32 bytes."""
        return bytes.fromhex(self.sha256)


class TokenPlace(Section):
    """Where a token is, and what unlocks it. Say in exactly one way where its PIN comes from."""

    module: Annotated[
        FilePath,
        Field(description="The PKCS#11 module."),
        Input(),
        Sample("/usr/lib/softhsm/libsofthsm2.so", active=True),
    ]
    uri: Annotated[
        str,
        Field(
            description="The token by RFC 7512 URI, with its serial; `dongled token list` prints it.",
            pattern=r"^pkcs11:[!-~]{1,500}$",
        ),
        Sample("pkcs11:token=terminal;serial=0123456789abcdef", active=True),
    ]
    pin_file: Annotated[
        FilePath | None,
        Field(description="File that holds the PIN, mode 0600."),
        Input(secret=True),
        Sample("pin", active=True),
    ] = None
    pin_credential: Annotated[
        CredentialName | None,
        Field(description="systemd credential that holds the PIN."),
        Sample("token-pin"),
    ] = None
    pin_fido: Annotated[
        FilePath | None,
        Field(
            description="File that holds the PIN sealed for FIDO2 keys: touching one unlocks the token. "
            "`dongled token unlock enroll` makes it."
        ),
        Sample("pin-fido.json"),
    ] = None
    pin_prompt: Annotated[
        bool,
        Field(
            description="Ask for the PIN at each start: on the terminal, or without one wait for "
            "`dongled token unlock`."
        ),
        Sample(True),
    ] = False
    pin_none: Annotated[
        bool, Field(description="The token has no PIN: whoever has it, may use it."), Sample(True)
    ] = False

    @property
    def pin(self) -> SecretSource | None:
        """Where the PIN is in clear; None where it is asked for, sealed, or not needed."""
        return secret_source(self.pin_file, self.pin_credential)


class TokenSettings(TokenPlace):
    """The token that holds the long-term keys. Say in exactly one way where its PIN comes from."""

    on_removal: Annotated[
        Literal["leave", "mute"],
        Field(
            description="What to do when the token is pulled: `leave` the meetings, or stay in them `mute`, "
            "without streams. In each case every key is dropped at once."
        ),
    ] = "leave"
    grace: Annotated[
        int,
        Field(
            description="For `leave`: seconds to stay mute before, in case the token comes back.",
            ge=0,
            le=3600,
        ),
    ] = 0
    identity: Annotated[KeyPin, Field(description="The signing key (PIV 9A).")]
    data: Annotated[KeyPin, Field(description="The key agreement key (PIV 9D).")]


class DataTokenSettings(TokenPlace):
    """A second token, for the data key, where [token] holds the identity key alone: a TPM that cannot do key
    agreement, say. Losing either is losing the token."""
