"""Who decides which terminals may watch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dongled.config.base import (
    CredentialName,
    FilePath,
    HttpsUrl,
    Input,
    Sample,
    Section,
    secret_source,
)
from dongled.config.secrets import SecretSource


class AuthorizerSettings(Section):
    """Who decides which certified terminals may watch, beyond certificate, role and assurance."""

    kind: Annotated[
        Literal["list", "program", "operator"],
        Field(
            description="`list`: trust.allow-viewers. In its place, `program`: a program of yours is asked "
            "(docs/authorization.md); `operator`: `dongled requests`, `approve` and `deny`."
        ),
    ] = "list"
    url: Annotated[
        HttpsUrl | None,
        Field(description="Where the program answers, over HTTPS."),
        Sample("https://authorizer.example.com/dongled"),
    ] = None
    socket: Annotated[
        FilePath | None,
        Field(description="Instead: the Unix socket that it listens on."),
        Sample("/run/authorizer/authorizer.sock"),
    ] = None
    ca_file: Annotated[
        FilePath | None,
        Field(description="PEM file with the only roots believed for the program's own certificate."),
        Input(),
        Sample("authorizer-ca.pem"),
    ] = None
    tls_certificate: Annotated[
        FilePath | None,
        Field(description="PEM file with a certificate for the TLS connection, where the program wants one."),
        Input(),
        Sample("authorizer-client.pem"),
    ] = None
    tls_key: Annotated[
        FilePath | None,
        Field(description="PEM file with its private key, mode 0600. It is not a key of the token."),
        Input(secret=True),
        Sample("authorizer-client.key"),
    ] = None
    bearer_file: Annotated[
        FilePath | None,
        Field(description="File that holds a bearer token to show to the program, mode 0600."),
        Input(secret=True),
        Sample("authorizer-token"),
    ] = None
    bearer_credential: Annotated[
        CredentialName | None,
        Field(description="Instead: systemd credential that holds it."),
        Sample("authorizer-token"),
    ] = None
    timeout: Annotated[int, Field(description="Seconds that the program has for an answer.", ge=1, le=60)] = 5
    refresh: Annotated[
        int,
        Field(
            description="Seconds after which it is asked again about who watches: a changed mind is noticed "
            "as late as that.",
            ge=5,
            le=240,
        ),
    ] = 60
    remember: Annotated[
        int,
        Field(
            description="Seconds for which what it allowed counts, should it no longer answer. More than "
            "refresh.",
            ge=10,
            le=86_400,
        ),
    ] = 300
    approval: Annotated[
        int,
        Field(
            description="Seconds for which the operator's word counts, where the operator does not say.",
            ge=10,
            le=30 * 86_400,
        ),
    ] = 28_800

    @property
    def bearer(self) -> SecretSource | None:
        return secret_source(self.bearer_file, self.bearer_credential)
