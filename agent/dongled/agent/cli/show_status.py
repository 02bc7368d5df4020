"""A daemon's status as people read it, on a terminal as narrow as 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from dongled.agent.logs.events import printable
from dongled.agent.status import (
    CertificateStatus,
    DaemonStatus,
    InboundStatus,
    MeetingStatus,
    OutboundStatus,
    PeerStatus,
    PrivateSessionStatus,
    WarningStatus,
)

LABEL = 12  # columns
DAY = 86_400.0


def lines(status: DaemonStatus, width: int = 80) -> list[str]:
    """Lines of at most ``width`` columns; at least 40. Others' words are made printable."""
    return [line for label, parts in _entries(status) for line in _folded(label, parts, max(width, 40))]


def brief(status: DaemonStatus, now: datetime | None = None) -> str:
    """One line with a time, for logs and pipes."""
    parts = [f"token {status.token.state}"]
    for meeting in status.meetings:
        parts.append(f"{meeting.name} {meeting.state}, {len(meeting.peers)} peers")
        parts += [f"send {each.stream} {_rate(each)}" for each in meeting.sending]
        parts += [f"watch {each.stream} {_rate(each)}" for each in meeting.receiving]
    if status.warnings:
        parts.append("warnings " + " ".join(sorted({each.id for each in status.warnings})))
    at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    return printable(f"{at}  " + "; ".join(parts))


Entry = tuple[str, Iterable[str]]


def _entries(status: DaemonStatus) -> Iterator[Entry]:
    yield (
        "terminal",
        (status.name, status.terminal, f"up {_span(status.uptime)}", f"dongled {status.version}"),
    )
    for warning in status.warnings:
        yield "WARNING", _warning(warning)
    token = status.token
    yield "token", (token.state, token.why, token.uri, f"signed {token.sign}, derived {token.derive}")
    for part in token.parts:
        yield f"  {part.key}", (part.state, part.why, part.uri)
    for certificate in status.certificates:
        yield certificate.role, _certificate(certificate)
    if status.time is not None:
        if status.time.trusted:
            yield "time", (f"trusted ({status.time.source})",)
        else:
            yield "time", ("NOT TRUSTED, so nothing is granted:", f"{status.time.why} [{status.time.reason}]")
    if status.revocation is not None:
        unknown = _counts("nobody answers", status.revocation.unknown)
        yield "revocation", (status.revocation.mode, unknown)
    for meeting in status.meetings:
        yield from _meeting(meeting)


def _certificate(each: CertificateStatus) -> Iterator[str]:
    if each.until:
        left = f"{each.not_after / DAY:.1f} days" if each.not_after > 0 else "EXPIRED"
        yield from (each.subject, f"until {each.until} ({left})")
    else:
        yield "no certificate yet"
    if each.renewal != "off" and each.renewal_due is not None:
        failed = f" after {each.renewal_failures} failures" if each.renewal_failures else ""
        yield f"renewal {each.renewal}{failed}, next in {_span(each.renewal_due)}"
        yield each.renewal_why


def _meeting(meeting: MeetingStatus) -> Iterator[Entry]:
    encrypted = "encrypted" if meeting.encryption == "required" else "PLAIN"
    state = meeting.state
    if meeting.joined_seconds is not None and state == "joined":
        state += f" for {_span(meeting.joined_seconds)}"
    away = meeting.state != "joined"
    hint = f"-> {meeting.hint}" if meeting.hint else ""
    yield "meeting", (meeting.name, encrypted, state, *((meeting.why, hint) if away else ()))
    for peer in meeting.peers:
        yield " peer", _peer(peer)
    for each in meeting.private:
        yield " private", _private(each)
    for out in meeting.sending:
        yield " send", _sending(out)
    for came in meeting.receiving:
        yield " watch", _receiving(came)
    if any(meeting.refused.values()):
        yield " refused", _sorted(meeting.refused)
    if any(meeting.alarms.values()):
        yield " ALARMS", _sorted(meeting.alarms)


def _peer(peer: PeerStatus) -> Iterator[str]:
    yield from (peer.subject, peer.terminal, ", ".join(peer.roles), peer.assurance)
    yield "live" if peer.live else "SILENT"
    if peer.stale:
        yield f"STALE: {', '.join(peer.stale)}"
    if peer.granted:
        yield f"has keys of {', '.join(peer.granted)}"


def _private(each: PrivateSessionStatus) -> Iterator[str]:
    yield from (each.state, each.subject, each.terminal, ", ".join(each.roles), each.assurance)
    if each.lapses_in is not None:
        yield f"lapses in {_span(each.lapses_in)}"
    if each.shows:
        yield f"shows {', '.join(each.shows)}"
    if each.watches:
        yield f"watches {', '.join(each.watches)}"
    if each.stale:
        yield f"STALE: {', '.join(each.stale)}"


def _sending(out: OutboundStatus) -> Iterator[str]:
    yield from (out.stream, _generation(out.generation), _rate(out), f"sealed {out.frames_sealed}")
    yield _stages(out.stages)
    yield _counts("dropped", out.dropped)
    yield f"to {out.to} alone" if out.to else ""
    yield f"NO PICTURES: {out.absent}" if out.absent else ""


def _receiving(came: InboundStatus) -> Iterator[str]:
    yield from (came.stream, _generation(came.generation), _rate(came), f"opened {came.frames_opened}")
    yield from (f"from {came.terminal}", came.subject, ", ".join(came.roles), came.assurance)
    yield _stages(came.stages)
    yield _counts("FAILED", came.frames_failed)
    yield _counts("not shown", came.frames_skipped)


def _warning(warning: WarningStatus) -> Iterator[str]:
    about = f" ({warning.about})" if warning.about else ""
    yield f"{warning.id}{about} for {_span(warning.seconds)}: {warning.text}"
    yield f"-> {warning.hint}"


def _rate(stream: OutboundStatus | InboundStatus) -> str:
    return f"{stream.fps:.1f} fps, {stream.bitrate / 1e6:.2f} Mbit/s"


def _generation(number: int | None) -> str:
    return "no key" if number is None else f"generation {number}"


def _stages(stages: dict[str, float]) -> str:
    return "ms: " + ", ".join(f"{stage} {spent:.1f}" for stage, spent in stages.items()) if stages else ""


def _counts(title: str, counts: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(_sorted(counts)) if any(counts.values()) else ""


def _sorted(counts: dict[str, int]) -> list[str]:
    """Most frequent first."""
    pairs = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [f"{reason} {count}" for reason, count in pairs if count]


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"


def _folded(label: str, parts: Iterable[str], width: int) -> Iterator[str]:
    """Parts two blanks apart; one that does not fit goes on a line of its own, broken if it has to be."""
    line, room = f"{label:<{LABEL}}", width - LABEL
    empty = True
    for part in (printable(part) for part in parts if part):
        if not empty and len(line) + 2 + len(part) > width:
            yield line
            line, empty = " " * LABEL, True
        line += part if empty else f"  {part}"
        empty = False
        while len(line) > width:
            cut = line.rfind(" ", LABEL + 1, width + 1)
            cut = cut if cut > LABEL + room // 2 else width
            yield line[:cut].rstrip()
            line = " " * LABEL + line[cut:].lstrip()
    if line.strip():
        yield line.rstrip()
