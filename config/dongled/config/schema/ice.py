"""How to get through NAT."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dongled.config.base import (
    CredentialName,
    FilePath,
    Input,
    Name,
    Sample,
    Section,
    StunUrl,
    TurnUrl,
    secret_source,
)
from dongled.config.secrets import SecretSource


class TurnServer(Section):
    """A TURN relay."""

    url: Annotated[
        TurnUrl,
        Field(description="turn:HOST[:PORT] or turns:HOST[:PORT]."),
        Sample("turn:turn.example.com:3478"),
    ]
    username: Annotated[Name, Field(description="User name."), Sample("terminal")]
    password_file: Annotated[
        FilePath | None,
        Field(description="File that holds the password, mode 0600."),
        Input(secret=True),
        Sample("turn-password"),
    ] = None
    password_credential: Annotated[
        CredentialName | None,
        Field(description="Instead: systemd credential that holds the password."),
        Sample("turn-password"),
    ] = None

    @property
    def password(self) -> SecretSource | None:
        return secret_source(self.password_file, self.password_credential)


class IceSettings(Section):
    """How to get through NAT. Nobody is asked unless listed here."""

    stun: Annotated[
        tuple[StunUrl, ...], Field(description="STUN servers."), Sample(["stun:stun.example.com:3478"])
    ] = ()
    turn: Annotated[tuple[TurnServer, ...], Field(description="TURN relays.")] = ()
