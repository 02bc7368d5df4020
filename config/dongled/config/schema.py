"""The settings: what can be configured, its defaults and its limits. Descriptions end up in `config init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dongled.config.base import (
    CredentialName,
    Extra,
    FilePath,
    HexBytes,
    HttpsUrl,
    HttpUrl,
    Id,
    Input,
    Name,
    RoomName,
    Sample,
    Section,
    SfuUrl,
    Sha256,
    StunUrl,
    Terminal,
    TurnUrl,
    secret_source,
)
from dongled.config.secrets import SecretSource

# RFC 7030, 3.2.2: one segment of a path.
LABEL = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$"
UUID = "urn:uuid:00000000-0000-4000-8000-000000000000"


class TerminalSettings(Section):
    """Who this terminal says it is. Others trust its certificate, not this."""

    name: Annotated[Name, Field(description="Shown to other terminals, and to the SFU.")] = "dongled"


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


class TokenSettings(Section):
    """The token that holds the long-term keys. Give its PIN in exactly one of three ways."""

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
    pin_prompt: Annotated[
        bool, Field(description="Ask for the PIN on the terminal at each start."), Sample(True)
    ] = False
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

    @property
    def pin(self) -> SecretSource | None:
        """Where the PIN is; None means asking for it."""
        return secret_source(self.pin_file, self.pin_credential)


class TrustSettings(Section):
    """Whose certificates are believed, and who of them may do what. Empty lists allow nobody."""

    roots: Annotated[
        tuple[FilePath, ...],
        Field(description="PEM files with the root certificates that terminals' certificates lead to."),
        Input(),
        Sample(["root.pem"], active=True),
    ] = ()
    minimum_assurance: Annotated[
        Literal["hardware", "software"],
        Field(description="The least assurance that a peer's certificates must state."),
    ] = "hardware"
    allow_viewers: Annotated[
        tuple[Terminal, ...],
        Field(description="Terminals that may have the keys of our streams."),
        Sample([UUID], active=True),
    ] = ()
    allow_publishers: Annotated[
        tuple[Terminal, ...],
        Field(description="Terminals whose streams are asked for and shown."),
        Sample([UUID], active=True),
    ] = ()
    time_source: Annotated[
        Literal["untrusted", "system"],
        Field(
            description="Certificates are checked against a time that can be trusted. `system` believes this "
            "machine's clock as it is; `untrusted` grants nothing until the time is authenticated."
        ),
    ] = "untrusted"
    revocation: Annotated[
        Literal["off", "crl", "ocsp", "either"],
        Field(
            description="How it is known that a certificate was not revoked. What is not known is refused; "
            "`either`: a good answer of one suffices. `off` takes nothing for revoked, and is for labs."
        ),
    ] = "either"
    revocation_responder: Annotated[
        HttpUrl | None,
        Field(description="OCSP responder to ask, instead of those that certificates name."),
        Sample("http://ocsp.example.com"),
    ] = None
    revocation_crls: Annotated[
        tuple[FilePath, ...],
        Field(description="CRLs to read (PEM or DER), instead of those that certificates name."),
        Input(),
        Sample(["root.crl"]),
    ] = ()
    revocation_crl_urls: Annotated[
        tuple[HttpUrl, ...],
        Field(description="The same, to fetch."),
        Sample(["http://pki.example.com/root.crl"]),
    ] = ()
    revocation_max_age: Annotated[
        int,
        Field(
            description="Seconds after which an answer is too old, even if it claims to hold longer.",
            ge=60,
            le=31 * 86_400,
        ),
    ] = 86_400
    revocation_refresh: Annotated[
        int,
        Field(
            description="Seconds after which it is asked again about a terminal in the meeting: a "
            "revocation is noticed as late as that.",
            ge=5,
            le=86_400,
        ),
    ] = 120
    revocation_grace: Annotated[
        int,
        Field(
            description="Seconds for which a good answer still counts after it ran out, when nothing newer "
            "can be had. 0: whoever cannot be asked about gets no key.",
            ge=0,
            le=31 * 86_400,
        ),
    ] = 0


class StateSettings(Section):
    """What is kept over a restart: the latest time known to have passed, and how PINs fared, never a PIN.
    No secret is ever kept."""

    directory: Annotated[FilePath, Field(description="Directory for it, made if it is not there.")] = Path(
        "/var/lib/dongled"
    )


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

    @property
    def password(self) -> SecretSource | None:
        return secret_source(self.password_file, self.password_credential)


class ControlSettings(Section):
    """The socket that `dongled status` talks to."""

    socket: Annotated[FilePath, Field(description="Path of the Unix socket.")] = Path(
        "/run/dongled/control.sock"
    )
    group: Annotated[
        str | None,
        Field(
            description="Group that may connect, beside root and our own user.",
            pattern=r"^[a-z_][a-z0-9_-]{0,31}$",
        ),
        Sample("dongled"),
    ] = None


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


class StreamSettings(Section):
    """A picture source and how it is encoded."""

    id: Annotated[Id, Field(description="Name of the stream, unique here."), Sample("camera", active=True)]
    source: Annotated[
        Literal["testsrc", "file", "camera"],
        Field(description="testsrc: a moving test picture; file: a video file; camera: a V4L2 device."),
        Sample("testsrc", active=True),
    ]
    device: Annotated[
        FilePath | None,
        Field(description="For camera: the device, best by a name that survives replugging."),
        Sample("/dev/v4l/by-path/platform-example-usb-0:1:1.0-video-index0"),
    ] = None
    path: Annotated[
        FilePath | None,
        Field(description="For file: the video file."),
        Input(),
        Sample("film.mkv"),
    ] = None
    loop: Annotated[bool, Field(description="For file: start again at its end.")] = True
    width: Annotated[int, Field(description="Pixels, even.", ge=128, le=3840, multiple_of=2)] = 1280
    height: Annotated[int, Field(description="Pixels, even.", ge=96, le=2160, multiple_of=2)] = 720
    fps: Annotated[int, Field(description="Pictures per second.", ge=1, le=60)] = 30
    codec: Annotated[Literal["vp8"], Field(description="Video codec.")] = "vp8"
    bitrate: Annotated[int, Field(description="Bit/s.", ge=50_000, le=50_000_000)] = 2_000_000


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
    subscribe: Annotated[
        Literal["all", "none"] | tuple[Terminal, ...],
        Field(description='Whose streams to watch: "all", "none" or a list of terminals.'),
    ] = "all"
    sfu: SfuSettings
    sink: Annotated[tuple[SinkSettings, ...], Field(description="Where its pictures go.")] = ()

    @property
    def room_pin(self) -> SecretSource | None:
        return secret_source(self.room_pin_file, self.room_pin_credential)


class Settings(Section):
    """Everything. ``token`` is there whenever a meeting is encrypted."""

    terminal: TerminalSettings = TerminalSettings()
    token: TokenSettings | None = None
    trust: TrustSettings = TrustSettings()
    enrolment: Annotated[EnrolmentSettings | None, Extra()] = None
    state: StateSettings = StateSettings()
    control: ControlSettings = ControlSettings()
    ice: IceSettings = IceSettings()
    stream: tuple[StreamSettings, ...] = ()
    meeting: tuple[MeetingSettings, ...] = ()

    def stream_by_id(self, stream: str) -> StreamSettings:
        """The stream with this id; raises KeyError."""
        for candidate in self.stream:
            if candidate.id == stream:
                return candidate
        raise KeyError(stream)
