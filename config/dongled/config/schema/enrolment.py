"""Where certificates come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dongled.config.base import (
    CredentialName,
    FilePath,
    HttpsUrl,
    Input,
    Sample,
    Section,
    Terminal,
    secret_source,
)
from dongled.config.schema.samples import UUID
from dongled.config.secrets import SecretSource

# RFC 7030, 3.2.2: one segment of a path.
LABEL = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$"


class EnrolmentSettings(Section):
    """Certificates by EST (RFC 7030), with `dongled enroll` and renewed by the daemon in time."""

    url: Annotated[
        HttpsUrl,
        Field(description="The EST server; /.well-known/est is added."),
        Sample("https://est.example.com", active=True),
    ]
    ca_file: Annotated[
        FilePath,
        Field(description="PEM file with the only roots believed for the EST server's own certificate."),
        Input(),
        Sample("est-ca.pem", active=True),
    ]
    username: Annotated[
        str,
        Field(description="User name for HTTP Basic; no colon.", pattern=r"^[^:\x00-\x1f\x7f]{0,64}$"),
        Sample("terminal"),
    ] = ""
    password_file: Annotated[
        FilePath | None,
        Field(description="File that holds the password or one-time code, mode 0600."),
        Input(secret=True),
        Sample("enrolment-code"),
    ] = None
    password_credential: Annotated[
        CredentialName | None,
        Field(description="Instead: systemd credential that holds it."),
        Sample("enrolment-code"),
    ] = None
    tls_certificate: Annotated[
        FilePath | None,
        Field(description="PEM file with a certificate for the TLS connection, where the server wants one."),
        Input(),
        Sample("est-client.pem"),
    ] = None
    tls_key: Annotated[
        FilePath | None,
        Field(description="PEM file with its private key, mode 0600. It is not a key of the token."),
        Input(secret=True),
        Sample("est-client.key"),
    ] = None
    label: Annotated[
        str | None,
        Field(description="The server's name for the identity's profile.", pattern=LABEL),
        Sample("identity"),
    ] = None
    data_label: Annotated[
        str | None,
        Field(description="The same for the data key; without it, label.", pattern=LABEL),
        Sample("data"),
    ] = None
    subject: Annotated[
        str | None,
        Field(
            description="Subject of the first certificate (RFC 4514); without it, CN=terminal.name.",
            min_length=1,
            max_length=256,
        ),
        Sample("CN=door-camera,O=Example"),
    ] = None
    terminal: Annotated[
        Terminal | None,
        Field(description="This terminal's name; without it, one made from its identity key."),
        Sample(UUID),
    ] = None
    officer_file: Annotated[
        FilePath | None,
        Field(
            description="File that holds the SO PIN, mode 0600, where the token takes certificates from "
            "no one else: of a PIV card the management key."
        ),
        Input(secret=True),
        Sample("so-pin"),
    ] = None
    data_officer_file: Annotated[
        FilePath | None,
        Field(description="The same of the token in [data-token]."),
        Input(secret=True),
        Sample("data-so-pin"),
    ] = None

    @property
    def password(self) -> SecretSource | None:
        return secret_source(self.password_file, self.password_credential)
