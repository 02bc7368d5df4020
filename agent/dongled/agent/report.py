"""Gathers what ``status`` shows from the objects that know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dongled.agent.clock import boottime
from dongled.agent.custody import Custody
from dongled.agent.meetings.encrypted import EncryptedSession
from dongled.agent.meetings.meeting import Meeting
from dongled.agent.meetings.plain import PlainSession
from dongled.agent.meetings.streams import Incoming, Outgoing
from dongled.agent.policy.authorizer.api import Question
from dongled.agent.policy.authorizer.operator import Operator
from dongled.agent.status import (
    InboundStatus,
    KeyStatus,
    MeetingStatus,
    OutboundStatus,
    PeerStatus,
    PrivateSessionStatus,
    RequestStatus,
    TokenPartStatus,
    TokenStatus,
)
from dongled.tokens.api import KeyInfo, KeyRole


def token_status(custody: Custody | None) -> TokenStatus:
    if custody is None:
        return TokenStatus(state="none", uri="", keys=[], sign=0, derive=0)
    keys = custody.keys
    if keys is None:
        return TokenStatus(custody.state, "", [], 0, 0, custody.why, _parts(custody, {}))
    counts = keys.operations
    return TokenStatus(
        state=custody.state,
        why=custody.why,
        uri=keys.uri,
        keys=[_key(keys.identity), _key(keys.data)],
        sign=counts.sign,
        derive=counts.derive,
        parts=_parts(custody, {role: part.token.uri for role, part in keys.parts.items()}),
    )


def _parts(custody: Custody, uris: Mapping[KeyRole, str]) -> list[TokenPartStatus]:
    return [
        TokenPartStatus(role.value, state, why, uris.get(role, ""))
        for role, (state, why) in custody.parts.items()
    ]


def _key(key: KeyInfo) -> KeyStatus:
    attributes = key.attributes
    return KeyStatus(
        role=key.role.value,
        id=key.cka_id.hex(),
        sha256=key.sha256.hex(),
        local=attributes.local,
        sensitive=attributes.sensitive,
        always_sensitive=attributes.always_sensitive,
        extractable=attributes.extractable,
        never_extractable=attributes.never_extractable,
        sign=attributes.sign,
        derive=attributes.derive,
    )


def requests_status(operator: Operator, only: Sequence[Question] | None = None) -> list[RequestStatus]:
    """All that is asked of the operator, or the ``only`` ones."""
    now = boottime()
    return [
        RequestStatus(
            id=entry.question.id,
            meeting=entry.question.meeting,
            terminal=entry.question.terminal,
            subject=entry.question.subject,
            roles=list(entry.question.roles),
            assurance=entry.question.assurance,
            sha256=entry.question.leaf,
            streams=list(entry.question.streams),
            evidence=list(entry.question.evidence),
            state=entry.state,
            by=entry.by,
            age=now - entry.since,
            left=None if entry.state == "pending" else entry.until - now,
        )
        for entry in operator.entries()
        if only is None or entry.question in only
    ]


def meeting_status(meeting: Meeting) -> MeetingStatus:
    settings, journal, session = meeting.settings, meeting.journal, meeting.session
    status = MeetingStatus(
        name=settings.name,
        encryption=settings.encryption,
        sfu=settings.sfu.url,
        room=str(settings.room),
        state=meeting.state,
        why=meeting.why,
        hint=meeting.hint,
        session=session.name if session else "",
        joined_seconds=None if meeting.joined_at is None else boottime() - meeting.joined_at,
        refused=dict(journal.refused),
        alarms=dict(journal.alarms),
        alarm_seconds=None if journal.alarmed_at is None else boottime() - journal.alarmed_at,
        events=list(journal.events),
    )
    if isinstance(session, EncryptedSession):
        member = session.member
        status.messages_sent = dict(member.counters.sent)
        status.messages_received = dict(member.counters.received)
        status.peers = [
            PeerStatus(
                session=known.peer.session.hex(),
                terminal=known.peer.terminal,
                subject=known.peer.subject,
                roles=sorted(known.peer.roles),
                assurance=known.peer.assurance,
                live=known.live,
                stale=[feed.stream.id for feed in known.feeds if feed.stale],
                beacon_age=known.beacon_age,
                granted=list(known.granted),
                streams=[stream.id for stream in known.peer.streams],
            )
            for known in member.peers(boottime())
        ]
        status.private = [
            PrivateSessionStatus(
                session=known.peer.session.hex(),
                terminal=known.peer.terminal,
                subject=known.peer.subject,
                state=known.state,
                lapses_in=known.lapses_in,
                shows=list(known.shows),
                watches=list(known.watches),
                stale=list(known.stale),
                roles=sorted(known.peer.roles),
                assurance=known.peer.assurance,
            )
            for known in member.private(boottime())
        ]
    if isinstance(session, EncryptedSession | PlainSession):
        status.sending = [_outgoing(stream) for stream in session.streams.outgoing.values()]
        whose = {peer.session: peer for peer in status.peers}
        status.receiving = [
            _incoming(stream, meeting, whose.get(stream.context.session.hex()))
            for stream in session.streams.incoming.values()
        ]
    return status


def _outgoing(outgoing: Outgoing) -> OutboundStatus:
    stats = outgoing.stream.stats()
    return OutboundStatus(
        stream=outgoing.name,
        codec=outgoing.codec,
        generation=outgoing.generation,
        fps=stats.fps,
        bitrate=int(stats.bitrate),
        frames_captured=stats.frames_captured,
        frames_encoded=stats.frames_encoded,
        frames_sealed=stats.frames_sealed,
        frames_sent=stats.frames_sent,
        keyframes=stats.keyframes,
        dropped=dict(stats.drops),
        stages=_milliseconds(stats.stages),
        absent=outgoing.stream.absent,
        to=outgoing.to,
    )


def _incoming(incoming: Incoming, meeting: Meeting, peer: PeerStatus | None) -> InboundStatus:
    stats = incoming.stream.stats()
    first = None
    if stats.first_opened_at is not None and meeting.started_monotonic is not None:
        first = 1000 * (stats.first_opened_at - meeting.started_monotonic)
    return InboundStatus(
        session=incoming.context.session.hex(),
        terminal=incoming.terminal,
        stream=incoming.name,
        codec=incoming.context.codec,
        generation=None if stats.last is None else stats.last[0],
        fps=stats.fps,
        bitrate=int(stats.bitrate),
        frames_received=stats.frames_received,
        frames_opened=stats.frames_opened,
        frames_decoded=stats.decoded,
        frames_failed=dict(stats.failed),
        frames_skipped=dict(stats.skipped),
        frames_held=stats.held,
        first_frame_ms=first,
        stages=_milliseconds(stats.stages),
        subject=peer.subject if peer else "",
        roles=peer.roles if peer else [],
        assurance=peer.assurance if peer else "",
    )


def _milliseconds(stages: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(1000 * seconds, 3) for stage, seconds in stages.items()}
