"""Every warning there is, by an id that never changes. docs/operations.md says what each means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """``hint`` says what to do. ``patience``: seconds for which it has to be so before it is worth a warning.

    Of the settings' own warnings (``dongled.config.checks``) the hint is there.
    """

    id: str
    hint: str = ""
    patience: float = 0.0


SETTINGS = tuple(
    Kind(name)
    for name in (
        "time-source-system",
        "time-source-untrusted",
        "revocation-off",
        "revocation-grace",
        "enrolment-anonymous",
        "plain-meeting",
        "sfu-unencrypted",
        "assurance-software",
        "anybody-may-view",
        "nobody-may-view",
        "nobody-may-publish",
        "pin-prompt",
        "pin-fido",
        "pin-none",
    )
)

TOKEN_ABSENT = Kind("token-absent", "insert it again; the terminal goes on by itself")
TOKEN_LOCKED = Kind("token-locked", "put the right PIN in its place: a changed one is tried once")
TOKEN_BLOCKED = Kind("token-blocked", "unblock its PIN with the PUK or the security officer's PIN")
TOKEN_WRONG = Kind("token-wrong", "insert the token that the configuration pins, or pin this one")
TOKEN_FAULT = Kind("token-fault", "'dongled doctor' says what works of it", patience=5)

CERTIFICATE_MISSING = Kind("certificate-missing", "have one issued: 'dongled enroll' tells why there is none")
CERTIFICATE_EXPIRED = Kind("certificate-expired", "others refuse this terminal: have a new one issued")
CERTIFICATE_EXPIRING = Kind("certificate-expiring", "have a new one issued and imported in time")
RENEWAL_FAILING = Kind("renewal-failing", "'dongled enroll --renew' tells what the platform says")

TIME_NOT_TRUSTED = Kind("time-not-trusted", "'dongled doctor' says what to do: until then nothing is granted")
REVOCATION_UNREACHABLE = Kind(
    "revocation-unreachable", "whoever cannot be asked about gets no key: see to the platform", patience=10
)

MEETING_NOT_JOINED = Kind("meeting-not-joined", "'dongled doctor' says if the SFU is reached", patience=30)
PEER_STALE = Kind("peer-stale", "what is shown lies behind what its sender vouches for: do not rely on it")
ALARM = Kind("alarm", "somebody may be attacking: see the journal, and docs/protocol.md for the reason")
SOURCE_SILENT = Kind("source-silent", "see to the camera and its cable: it gives no pictures", patience=10)

TOUCH_WANTED = Kind("touch-wanted", "touch the registered FIDO2 key when it blinks")

RELOAD_REFUSED = Kind("reload-refused", "mend it, and 'dongled reload'; until then the old settings hold")
RESTART_NEEDED = Kind("restart-needed", "restart the daemon when it suits")

AUDIT_FAILING = Kind(
    "audit-failing", "what is granted is not recorded: make room, or see whose directory it is"
)
DISK_NEARLY_FULL = Kind("disk-nearly-full", "make room: recordings stop, and state is no longer kept")

LIVE = (
    TOKEN_ABSENT,
    TOKEN_LOCKED,
    TOKEN_BLOCKED,
    TOKEN_WRONG,
    TOKEN_FAULT,
    CERTIFICATE_MISSING,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_EXPIRING,
    RENEWAL_FAILING,
    TIME_NOT_TRUSTED,
    REVOCATION_UNREACHABLE,
    MEETING_NOT_JOINED,
    PEER_STALE,
    ALARM,
    SOURCE_SILENT,
    TOUCH_WANTED,
    RELOAD_REFUSED,
    RESTART_NEEDED,
    AUDIT_FAILING,
    DISK_NEARLY_FULL,
)

KINDS = {kind.id: kind for kind in (*SETTINGS, *LIVE)}
