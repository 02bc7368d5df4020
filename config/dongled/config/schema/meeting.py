"""The meetings to be in, their SFU and their sinks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dongled.config.base import (
    CredentialName,
    FilePath,
    Id,
    Input,
    Name,
    RoomName,
    Sample,
    Section,
    SfuUrl,
    Terminal,
    secret_source,
)
from dongled.config.secrets import SecretSource


class SfuSettings(Section):
    """The SFU that forwards the meeting. It is not trusted with pictures or keys."""

    type: Annotated[Literal["janus"], Field(description="Kind of SFU: janus (its VideoRoom).")] = "janus"
    url: Annotated[
        SfuUrl,
        Field(description="ws:// or wss:// address of its API."),
        Sample("wss://sfu.example.com/janus", active=True),
    ]
    ca_file: Annotated[
        FilePath | None,
        Field(
            description="For wss: PEM file with the only roots believed for the SFU. Default: the system's."
        ),
        Input(),
        Sample("sfu-ca.pem"),
    ] = None
    token_file: Annotated[
        FilePath | None,
        Field(description="File that holds Janus's authentication token, mode 0600."),
        Input(secret=True),
        Sample("janus-token"),
    ] = None
    token_credential: Annotated[
        CredentialName | None,
        Field(description="Instead: systemd credential that holds it."),
        Sample("janus-token"),
    ] = None
    api_secret_file: Annotated[
        FilePath | None,
        Field(description="File that holds Janus's API secret, mode 0600."),
        Input(secret=True),
        Sample("janus-api-secret"),
    ] = None
    api_secret_credential: Annotated[
        CredentialName | None,
        Field(description="Instead: systemd credential that holds it."),
        Sample("janus-api-secret"),
    ] = None

    @property
    def token(self) -> SecretSource | None:
        return secret_source(self.token_file, self.token_credential)

    @property
    def api_secret(self) -> SecretSource | None:
        return secret_source(self.api_secret_file, self.api_secret_credential)


class SinkSettings(Section):
    """Where the pictures of the meeting go. In a path, {peer} and {stream} tell the streams apart."""

    kind: Annotated[
        Literal["null", "png", "mkv"],
        Field(description="null: counted; png: the newest picture, again and again; mkv: a recording."),
        Sample("png"),
    ]
    path: Annotated[
        FilePath | None,
        Field(description="For png and mkv: the file."),
        Sample("/var/lib/dongled/{peer}-{stream}.png"),
    ] = None
    every: Annotated[
        float, Field(description="For png: seconds between two pictures.", ge=0.1, le=86_400)
    ] = 1.0


class MeetingSettings(Section):
    """A meeting to be in."""

    name: Annotated[
        Name,
        Field(description="The meeting's name; every terminal in it must have the same, or no key fits."),
        Sample("lobby", active=True),
    ]
    encryption: Annotated[
        Literal["required", "plain"],
        Field(description="`plain` shows everything to the SFU and is shown as a warning."),
    ] = "required"
    room: Annotated[
        Annotated[int, Field(ge=1)] | RoomName,
        Field(description="The room on the SFU: a number, or a string where the SFU is set to string ids."),
        Sample("lobby", active=True),
    ]
    room_pin_file: Annotated[
        FilePath | None,
        Field(description="File that holds the room's PIN, mode 0600."),
        Input(secret=True),
        Sample("room-pin"),
    ] = None
    room_pin_credential: Annotated[
        CredentialName | None,
        Field(description="Instead: systemd credential that holds it."),
        Sample("room-pin"),
    ] = None
    create: Annotated[bool, Field(description="Create the room when it is not there.")] = False
    publish: Annotated[
        tuple[Id, ...], Field(description="Streams to publish, by id."), Sample(["camera"], active=True)
    ] = ()
    private: Annotated[
        tuple[Id, ...],
        Field(
            description="Streams that `dongled private` may show to one terminal, by id; published nowhere.",
            max_length=4,
        ),
        Sample(["screen"]),
    ] = ()
    subscribe: Annotated[
        Literal["all", "none"] | tuple[Terminal, ...],
        Field(description='Whose streams to watch: "all", "none" or a list of terminals.'),
    ] = "all"
    sfu: SfuSettings
    sink: Annotated[tuple[SinkSettings, ...], Field(description="Where its pictures go.")] = ()

    @property
    def room_pin(self) -> SecretSource | None:
        return secret_source(self.room_pin_file, self.room_pin_credential)
