"""What the grant protocol's state machine asks of the daemon, and tells it.

The machine never touches a socket, a clock or a token. The daemon feeds it bytes, times (CLOCK_BOOTTIME,
seconds) and the token's answers, then takes what it wants done from ``Member.take_effects()``.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream that a terminal announces: its id within the session, and its codec (``"vp8"``)."""

    id: str
    codec: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A terminal whose announcement was verified. ``session`` is 16 bytes, ``leaf`` its SHA-256."""

    session: bytes
    terminal: str
    subject: str
    leaf: bytes
    roles: frozenset[str]
    assurance: str
    streams: tuple[Stream, ...]

    @property
    def described(self) -> str:
        """For people: who it is, what it may do, and how much its keys are to be believed."""
        return f"{self.terminal} ({self.subject}; {', '.join(sorted(self.roles))}; {self.assurance})"


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a FIDO2 authenticator answered (WebAuthn, 7.2): proof that somebody was there.

    ``client_data`` is JSON that has the challenge; where it is empty, the challenge itself was signed in
    place of its hash.
    """

    credential: bytes
    authenticator_data: bytes
    client_data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a requester shows for itself, as it came: nothing here was verified.

    ``ocsp``: OCSP responses (DER) about certificates of its chains. ``attestation``: certificates (DER) in
    which a token says where its keys were made.
    """

    ocsp: tuple[bytes, ...] = ()
    fido: Assertion | None = None
    attestation: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """A peer's stream that is wanted here: the newest generation held, and the one its beacon names."""

    stream: Stream
    kid: int | None
    announced_kid: int | None
    stale: bool


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer as ``status`` shows it.

    ``granted``: my streams that it holds keys of. ``feeds``: its streams that are wanted here. ``refused``:
    the coarse reason it gave for refusing me. ``beacon_age``: seconds, None before the first beacon.
    ``same_roster``: whether its last beacon had my roster's hash.
    """

    peer: Peer
    source: str
    live: bool
    epoch: int
    granted: tuple[str, ...]
    feeds: tuple[FeedStatus, ...]
    refused: str | None
    beacon_age: float | None
    same_roster: bool | None


@dataclass(frozen=True, slots=True)
class PrivateFeed:
    """A stream of a private session: its id in the meeting, which says nothing, and its name at home."""

    stream: Stream
    name: str


@dataclass(frozen=True, slots=True)
class PrivateStatus:
    """A private session with ``peer``.

    ``state``: ``inviting`` (it has not answered), ``invited`` (I have not) or ``active``; ``lapses_in`` is in
    seconds, None when active. ``shows`` are names of my streams, ``watches`` of the peer's, ``stale``
    those of them that are behind what the peer's beacon says.
    """

    peer: Peer
    state: str
    lapses_in: float | None
    shows: tuple[str, ...]
    watches: tuple[str, ...]
    stale: tuple[str, ...]


# --- what the machine wants done -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send these bytes to everybody on the bus."""

    message: bytes


@dataclass(frozen=True, slots=True)
class SignWanted:
    """Have the identity key sign this 32-byte digest; answer with ``signed(operation, ...)``.

    ``kind`` is the type of the message that it is for: a ``presence`` must not wait for anything else.
    """

    operation: int
    digest: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class DeriveWanted:
    """Have the data key derive with this 65-byte point; answer with ``derived(operation, ...)``.

    ``terminal`` is whose message needs it: one terminal's must not keep those of the others waiting.
    """

    operation: int
    point: bytes
    terminal: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Nobody waits for this operation, of the token or for evidence, any more."""

    operation: int


@dataclass(frozen=True, slots=True)
class EvidenceWanted:
    """A request to ``peer`` is due; answer with ``evidence(operation, ...)``, with nothing if there is none.

    ``missing`` are those of ``streams`` of which no key is held. ``challenge`` (32 bytes) is what a FIDO2
    authenticator is to answer. Not answered within 18 s, or overtaken by events, it is ``Abandoned``, and
    another one for the same peer takes its place.
    """

    operation: int
    peer: Peer
    streams: tuple[str, ...]
    missing: tuple[str, ...]
    challenge: bytes


@dataclass(frozen=True, slots=True)
class SealWith:
    """From now on seal this stream of mine with this generation, starting at a keyframe.

    ``base_key`` is secret; ``signing_key`` is the epoch's Ed25519 private key, raw 32 bytes.
    """

    stream: str
    kid: int
    base_key: bytes = field(repr=False)
    signing_key: bytes = field(repr=False)
    suite: int = 5


@dataclass(frozen=True, slots=True)
class StopSealing:
    """Nobody may have this stream of mine: drop its key and send nothing until the next ``SealWith``."""

    stream: str


@dataclass(frozen=True, slots=True)
class OpenWith:
    """Install a key for a peer's stream. ``verify_key`` is the peer's Ed25519 public key, raw."""

    session: bytes
    stream: Stream
    kid: int
    base_key: bytes = field(repr=False)
    verify_key: bytes = field(repr=False)
    suite: int = 5


@dataclass(frozen=True, slots=True)
class StopOpening:
    """Forget keys of a peer's stream: all whose KID is below ``below``; None means every one."""

    session: bytes
    stream: str
    below: int | None = None


@dataclass(frozen=True, slots=True)
class PeerJoined:
    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerChanged:
    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """``reason``: ``leave``, ``silent``, ``sfu``, ``superseded``, ``refused``, ``expelled``..."""

    session: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Expelled:
    """A moderator (both are terminals' names) has expelled a terminal; ``reason`` is one printable line."""

    terminal: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Something was refused: a distinct ``reason``, and in ``detail`` what an operator wants to know.

    ``source`` is the bus's (untrusted) name of the sender, ``session`` the verified one where known.
    """

    reason: str
    detail: str
    source: str
    session: bytes | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on a peer's request for streams of mine, or on the keys that it holds.

    ``verdict``: ``granted``, ``held`` (undecided), ``refused`` or ``withdrawn`` (what was granted).
    ``reason`` is a refusal's name, empty for a grant; ``detail`` is the policy's why, for operators.
    """

    verdict: str
    peer: Peer
    streams: tuple[str, ...]
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """An announcement was refused. Unverified: ``terminal``, what it claims; ``source``, the bus's word."""

    terminal: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something is wrong with the meeting itself: a split roster, a doubled certificate."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class PrivateInvited:
    """``peer`` (a session) invites me to see streams of these names; it lapses after ``lifetime`` seconds."""

    peer: bytes
    names: tuple[str, ...]
    lifetime: float


@dataclass(frozen=True, slots=True)
class PrivateBegan:
    """``shows`` of mine are to be published for ``peer`` (a session), ``watches`` of its to be watched."""

    peer: bytes
    shows: tuple[PrivateFeed, ...]
    watches: tuple[PrivateFeed, ...]


@dataclass(frozen=True, slots=True)
class PrivateEnded:
    """It is over, or never began. ``reason``: ``ended``, ``declined``, ``refused``, ``lapsed``, ``silent``,
    ``policy``, or why the peer left the roster. ``mine``: I ended it.
    """

    peer: bytes
    shows: tuple[PrivateFeed, ...]
    watches: tuple[PrivateFeed, ...]
    reason: str
    mine: bool


Effect = (
    Broadcast
    | SignWanted
    | DeriveWanted
    | Abandoned
    | EvidenceWanted
    | SealWith
    | StopSealing
    | OpenWith
    | StopOpening
    | PeerJoined
    | PeerChanged
    | PeerLeft
    | Expelled
    | Refused
    | Judged
    | TurnedAway
    | Alarm
    | PrivateInvited
    | PrivateBegan
    | PrivateEnded
)
