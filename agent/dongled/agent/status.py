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
class TokenPartStatus:
    """One of two tokens: ``key`` is the role of the key on it, the rest as in ``TokenStatus``."""

    key: str
    state: str
    why: str
    uri: str


@dataclass(slots=True)
class TokenStatus:
    """``sign`` and ``derive`` count the private-key operations since the daemon last opened the token.

    ``state`` is one of ``dongled.tokens.state.TokenState``, or none where no token is configured; ``why``
    says what made it so, and is empty when it is READY. ``parts`` are the two tokens where there are two:
    then ``state`` is READY when both are, and ``uri`` the identity's.
    """

    state: str
    uri: str
    keys: list[KeyStatus]
    sign: int
    derive: int
    why: str = ""
    parts: list[TokenPartStatus] = field(default_factory=list)


@dataclass(slots=True)
class OutboundStatus:
    """A stream of mine. ``generation`` is the KID in use, None before the first grant.

    ``stages`` are milliseconds: capture, encode, seal, send (``dongled.media.outbound.OutboundStats``).
    ``absent`` says why its camera gives no pictures, while that is waited for; ``to`` is the one terminal
    that it is shown to, where it is private.
    """

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
    stages: dict[str, float] = field(default_factory=dict)
    absent: str = ""
    to: str = ""


@dataclass(slots=True)
class InboundStatus:
    """A stream of a peer. ``first_frame_ms`` counts from the start of joining to the first opened frame.

    Of a plain meeting nobody knows ``subject``, ``roles`` and ``assurance``.

    ``stages`` are milliseconds: receive, open, decode (``dongled.media.inbound.InboundStats``).
    """

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
    stages: dict[str, float] = field(default_factory=dict)
    subject: str = ""
    roles: list[str] = field(default_factory=list)
    assurance: str = ""


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
class RequestStatus:
    """Who asked the operator for what, with which certificate (``sha256``), and its answer.

    ``state``: pending, approved or denied, ``by`` whom. ``age``: seconds since it was first asked;
    ``left``: for how many more the operator's word counts.
    """

    id: str
    meeting: str
    terminal: str
    subject: str
    roles: list[str]
    assurance: str
    sha256: str
    streams: list[str]
    evidence: list[str]
    state: str
    by: str
    age: float
    left: float | None


@dataclass(slots=True)
class PrivateSessionStatus:
    """A private session, or an invitation to one: ``state`` is inviting, invited or active.

    ``lapses_in`` seconds it lapses, None when active; ``stale`` are those of ``watches`` that are old.
    """

    session: str
    terminal: str
    subject: str
    state: str
    lapses_in: float | None
    shows: list[str]
    watches: list[str]
    stale: list[str]
    roles: list[str] = field(default_factory=list)
    assurance: str = ""


@dataclass(slots=True)
class MeetingStatus:
    """``state``: connecting, joined, muted or waiting (to try again); ``why``: what ended the last try.

    ``hint``: what to do about that. ``alarm_seconds``: how long ago the last alarm was.
    """

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
    alarm_seconds: float | None = None
    events: list[str] = field(default_factory=list)
    private: list[PrivateSessionStatus] = field(default_factory=list)
    hint: str = ""


@dataclass(slots=True)
class CertificateStatus:
    """A certificate that this terminal announces, by its key's role.

    Times are seconds from now by the machine's clock, ``life`` the whole of its validity. ``renewal``: off,
    planned, waiting (somebody has to agree, or something is missing yet) or failing; ``renewal_due`` is when
    it is tried next, ``renewal_why`` what came of the last try.
    """

    role: str
    subject: str
    not_before: float
    not_after: float
    until: str
    life: float
    renewal: str = "off"
    renewal_due: float | None = None
    renewal_failures: int = 0
    renewal_why: str = ""


@dataclass(slots=True)
class TimeStatus:
    """Whether the time is believed; where it is not, nothing is granted, and ``why`` says the reason."""

    source: str
    trusted: bool
    reason: str = ""
    why: str = ""


@dataclass(slots=True)
class RevocationStatus:
    """``unknown``: about how many certificates nobody could be asked, by the reason."""

    mode: str
    unknown: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class DiskStatus:
    """A file system that is written to, by a directory on it. Bytes."""

    path: str
    free: int
    size: int


@dataclass(slots=True)
class WarningStatus:
    """``id`` and ``hint`` are stable (``dongled.agent.health``); ``seconds``: for how long it is so."""

    id: str
    text: str
    hint: str
    about: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class ReloadStatus:
    """What became of the last reload: names of meetings, and the keys that wait for a restart, dotted."""

    kept: list[str]
    begun: list[str]
    ended: list[str]
    restart: list[str]


@dataclass(slots=True)
class DaemonStatus:
    """``uptime`` in seconds; ``warnings`` are what an operator should know and may have chosen.

    ``reload_refused`` says what is wrong with the configuration that the last reload found, and is empty
    when it was taken; ``restart`` names the keys of it that wait for a restart. ``audit_failed`` says why the
    audit log is not written, where it should be. ``touch_wanted``: subjects of publishers that want a FIDO2
    key touched here.
    """

    version: str
    pid: int
    instance: str
    terminal: str
    name: str
    uptime: float
    token: TokenStatus
    meetings: list[MeetingStatus]
    warnings: list[WarningStatus] = field(default_factory=list)
    certificates: list[CertificateStatus] = field(default_factory=list)
    time: TimeStatus | None = None
    revocation: RevocationStatus | None = None
    disks: list[DiskStatus] = field(default_factory=list)
    reload_refused: str = ""
    restart: list[str] = field(default_factory=list)
    audit_failed: str = ""
    touch_wanted: list[str] = field(default_factory=list)
