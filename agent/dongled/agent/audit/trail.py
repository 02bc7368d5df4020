"""From what happens in a meeting to what is recorded of it."""

from __future__ import annotations

from typing import Any

from dongled.agent.audit.log import AuditLog
from dongled.agent.policy.authorizer.api import Question
from dongled.agent.protocol.api import Alarm, Effect, Expelled, Judged, Peer, TurnedAway


def note(log: AuditLog, meeting: str, effect: Effect) -> None:
    """Record an effect of the protocol's machine, if it is about who may watch."""
    match effect:
        case Judged(verdict, peer, streams, reason, detail):
            log.record(
                verdict, meeting=meeting, **_who(peer), streams=list(streams), reason=reason, why=detail
            )
        case TurnedAway(terminal, source, reason, detail):
            log.record(
                "turned-away", meeting=meeting, claims=terminal, source=source, reason=reason, why=detail
            )
        case Expelled(terminal, by, reason):
            log.record("expelled", meeting=meeting, terminal=terminal, by=by, why=reason)
        case Alarm(reason, detail):
            log.record("alarm", meeting=meeting, reason=reason, why=detail)


def decided(log: AuditLog, what: str, question: Question, by: str, seconds: float) -> None:
    """Record the operator's word; ``what``: approved or denied."""
    log.record(
        what,
        by=by,
        seconds=round(seconds),
        request=question.id,
        meeting=question.meeting,
        terminal=question.terminal,
        subject=question.subject,
        roles=list(question.roles),
        assurance=question.assurance,
        certificate=question.leaf,
        streams=list(question.streams),
        evidence=list(question.evidence),
    )


def _who(peer: Peer) -> dict[str, Any]:
    return {
        "terminal": peer.terminal,
        "subject": peer.subject,
        "roles": sorted(peer.roles),
        "assurance": peer.assurance,
        "certificate": peer.leaf.hex(),
        "session": peer.session.hex(),
    }
