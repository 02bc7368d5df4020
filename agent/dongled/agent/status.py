"""What ``status`` shows, as plain data: the control socket's answer and the demo's source of figures."""

# No `from __future__ import annotations`: Varlink's types are read off the annotations at run time.

from dataclasses import dataclass, field


@dataclass(slots=True)
class KeyStatus:
    """A private key as its token describes it; ``sha256`` is hex of the SubjectPublicKeyInfo's hash."""

    role: str
    id: str
    sha256: str
    local: bool
    sensitive: bool
    always_sensitive: bool
    extractable: bool
    never_extractable: bool
    sign: bool
    derive: bool


@dataclass(slots=True)
class TokenStatus:
    """``sign`` and ``derive`` count the private-key operations since the daemon last opened the token.

    ``state`` is one of ``dongled.tokens.state.TokenState``, or none where no token is configured; ``why``
    says what made it so, and is empty when it is READY.
    """

    state: str
    uri: str
    keys: list[KeyStatus]
    sign: int
    derive: int
    why: str = ""


@dataclass(slots=True)
class OutboundStatus:
    """A stream of mine. ``generation`` is the KID in use, None before the first grant."""

    stream: str
    codec: str
    generation: int | None
    fps: float
    bitrate: int
    frames_captured: int
    frames_encoded: int
    frames_sealed: int
    frames_sent: int
    keyframes: int
    dropped: dict[str, int]


@dataclass(slots=True)
class InboundStatus:
    """A stream of a peer. ``first_frame_ms`` counts from the start of joining to the first opened frame."""

    session: str
    terminal: str
    stream: str
    codec: str
    generation: int | None
    fps: float
    bitrate: int
    frames_received: int
    frames_opened: int
    frames_decoded: int
    frames_failed: dict[str, int]
    frames_skipped: dict[str, int]
    frames_held: int
    first_frame_ms: float | None


@dataclass(slots=True)
class PeerStatus:
    session: str
    terminal: str
    subject: str
    roles: list[str]
    assurance: str
    live: bool
    stale: list[str]
    beacon_age: float | None
    granted: list[str]
    streams: list[str]


@dataclass(slots=True)
class MeetingStatus:
    """``state``: connecting, joined, muted or waiting (to try again); ``why``: what ended the last try."""

    name: str
    encryption: str
    sfu: str
    room: str
    state: str
    why: str
    session: str
    joined_seconds: float | None
    peers: list[PeerStatus] = field(default_factory=list)
    sending: list[OutboundStatus] = field(default_factory=list)
    receiving: list[InboundStatus] = field(default_factory=list)
    messages_sent: dict[str, int] = field(default_factory=dict)
    messages_received: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    alarms: dict[str, int] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


@dataclass(slots=True)
class WarningStatus:
    id: str
    text: str
    hint: str


@dataclass(slots=True)
class DaemonStatus:
    """``uptime`` in seconds; ``warnings`` are what an operator should know and may have chosen."""

    version: str
    pid: int
    instance: str
    terminal: str
    name: str
    uptime: float
    token: TokenStatus
    meetings: list[MeetingStatus]
    warnings: list[WarningStatus]
