"""What of a status is worth a warning. No clock and no memory: a status, and the one before, in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dongled.agent.health import registry
from dongled.agent.health.registry import Kind
from dongled.agent.status import CertificateStatus, DaemonStatus, DiskStatus, MeetingStatus

DAY = 86_400.0
# A certificate that is not renewed by itself is warned of so long before its end, or at that part of its
# life; one that is renewed has by then been tried for twice.
EXPIRING_DAYS = 14
EXPIRING_PART = 0.12
ALARM_LASTS = 3600.0
DISK_PART = 0.05
DISK_ENOUGH = 1 << 30
DISK_LEAST = 64 << 20


@dataclass(frozen=True, slots=True)
class Condition:
    """Something is so. ``about`` tells several of a kind apart and does not change while it lasts."""

    kind: Kind
    text: str
    about: str = ""
    hint: str = ""


Rule = Callable[[DaemonStatus, DaemonStatus | None], Iterator[Condition]]

_TOKEN = {
    "ABSENT": registry.TOKEN_ABSENT,
    "LOCKED": registry.TOKEN_LOCKED,
    "PIN_BLOCKED": registry.TOKEN_BLOCKED,
    "WRONG_TOKEN": registry.TOKEN_WRONG,
    "BUSY": registry.TOKEN_FAULT,
    "FAULT": registry.TOKEN_FAULT,
}


def token(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    kind = _TOKEN.get(now.token.state)
    # That one is the certificate's affair.
    if kind is not None and "[no-certificate]" not in now.token.why:
        yield Condition(kind, f"the token is {now.token.state}: {now.token.why}")


def certificates(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    if "[no-certificate]" in now.token.why:
        yield Condition(registry.CERTIFICATE_MISSING, now.token.why)
    for each in now.certificates:
        if each.until and each.not_after <= 0:
            yield Condition(registry.CERTIFICATE_EXPIRED, f"ended {each.until}", each.role)
        elif each.until and each.not_after < _warned_before(each):
            text = f"ends {each.until}, in {each.not_after / DAY:.1f} days"
            yield Condition(registry.CERTIFICATE_EXPIRING, text, each.role)
        if each.renewal == "failing":
            text = f"not renewed, {each.renewal_failures} tries: {each.renewal_why}"
            yield Condition(registry.RENEWAL_FAILING, text, each.role)


def _warned_before(each: CertificateStatus) -> float:
    part = EXPIRING_PART * each.life
    return min(EXPIRING_DAYS * DAY, part) if each.renewal != "off" else max(EXPIRING_DAYS * DAY, part)


def time(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    # That nobody is to vouch for it is the settings' own warning.
    if now.time is not None and not now.time.trusted and now.time.source != "untrusted":
        yield Condition(registry.TIME_NOT_TRUSTED, f"{now.time.why} [{now.time.reason}]")


def revocation(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    if now.revocation is not None and now.revocation.unknown:
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(now.revocation.unknown.items()))
        yield Condition(
            registry.REVOCATION_UNREACHABLE, f"nobody says whether certificates were revoked: {why}"
        )


def meetings(now: DaemonStatus, before: DaemonStatus | None) -> Iterator[Condition]:
    earlier = {meeting.session: meeting for meeting in before.meetings} if before else {}
    for meeting in now.meetings:
        if meeting.state in ("connecting", "waiting"):
            text = f"not joined: {meeting.why or meeting.state}"
            yield Condition(registry.MEETING_NOT_JOINED, text, meeting.name, meeting.hint)
        for peer in meeting.peers:
            for stream in peer.stale:
                text = f"{peer.terminal} {stream} is behind"
                yield Condition(registry.PEER_STALE, text, f"{meeting.name} {peer.session} {stream}")
        if meeting.alarm_seconds is not None and meeting.alarm_seconds < ALARM_LASTS:
            text = ", ".join(f"{reason} {count}" for reason, count in sorted(meeting.alarms.items()))
            yield Condition(registry.ALARM, text, meeting.name)
        if meeting.state == "joined" and (same := earlier.get(meeting.session)) is not None:
            yield from _silent(meeting, same)


def _silent(now: MeetingStatus, before: MeetingStatus) -> Iterator[Condition]:
    captured = {(stream.stream, stream.to): stream.frames_captured for stream in before.sending}
    for stream in now.sending:
        if captured.get((stream.stream, stream.to)) == stream.frames_captured:
            text = f"its source gives no pictures: {stream.absent or 'it hangs'}"
            yield Condition(registry.SOURCE_SILENT, text, stream.stream)


def nearly_full(disk: DiskStatus) -> bool:
    return disk.free < DISK_LEAST or (disk.free < DISK_ENOUGH and disk.free < DISK_PART * disk.size)


def disks(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    for disk in now.disks:
        if nearly_full(disk):
            text = f"{disk.free >> 20} MiB are free of {disk.size >> 20}"
            yield Condition(registry.DISK_NEARLY_FULL, text, disk.path)


def audit(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    if now.audit_failed:
        yield Condition(registry.AUDIT_FAILING, now.audit_failed)


def touch(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    for subject in now.touch_wanted:
        yield Condition(registry.TOUCH_WANTED, f"{subject} wants somebody present", subject)


def configuration(now: DaemonStatus, _: DaemonStatus | None) -> Iterator[Condition]:
    if now.reload_refused:
        yield Condition(registry.RELOAD_REFUSED, now.reload_refused)
    if now.restart:
        yield Condition(registry.RESTART_NEEDED, f"changed, not in effect: {', '.join(now.restart)}")


RULES: tuple[Rule, ...] = (
    token,
    certificates,
    time,
    revocation,
    meetings,
    disks,
    audit,
    touch,
    configuration,
)
