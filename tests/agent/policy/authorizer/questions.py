"""A question as the policy would ask it."""

from __future__ import annotations

from typing import Any

from dongled.agent.policy.authorizer.api import Question
from support.authority import TERMINAL

QUESTION: dict[str, Any] = {
    "meeting": "ward-3",
    "terminal": TERMINAL,
    "subject": "CN=nurse",
    "certificate": b"certificate",
    "leaf": "ab" * 32,
    "roles": ("viewer",),
    "assurance": "hardware",
    "streams": ("camera", "screen"),
    "evidence": (),
}


def question(**changes: Any) -> Question:
    return Question(**{**QUESTION, **changes})
