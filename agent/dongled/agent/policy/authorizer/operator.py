"""The operator decides: who asks is kept waiting until `dongled approve` or `dongled deny`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused, PolicyUndecided
from dongled.agent.policy.authorizer.api import Question

MOST = 64  # questions
MOST_EACH = 4  # of one terminal
IDLE = 150.0  # seconds after which a question that nobody repeats is forgotten


@dataclass(slots=True)
class Entry:
    """A question, and what the operator said: ``state`` is pending, approved or denied until ``until``.

    Times are CLOCK_BOOTTIME, seconds. ``by`` is who said it.
    """

    question: Question
    since: float
    asked: float
    state: str = "pending"
    until: float = 0.0
    by: str = ""


class Operator:
    """Decisions live in memory, for ``lasts`` seconds where the operator does not say how long."""

    def __init__(self, lasts: float, *, steady: Callable[[], float] = boottime) -> None:
        self._lasts = lasts
        self._steady = steady
        self._entries: dict[str, Entry] = {}
        self._learned: Callable[[], None] = lambda: None
        self._said: Callable[[str, Question, str, float], None] = lambda *said: None
        self._wake = asyncio.Event()

    def decide(self, question: Question, stream: str) -> str:
        now = self._steady()
        self._forget(now)
        entry = self._entries.get(question.id)
        if entry is None:
            self._make_room(question)
            entry = self._entries[question.id] = Entry(question, now, now)
            self._wake.set()
        entry.asked = now
        if entry.state == "approved":
            return f"approved by {entry.by}"
        if entry.state == "denied":
            raise PolicyRefused("operator-denied", f"{entry.by} denied it")
        raise PolicyUndecided(
            "operator-pending",
            f"{question.subject} waits for the operator",
            f"dongled approve {question.id}, or deny",
        )

    def entries(self) -> list[Entry]:
        """What is asked or was decided, oldest first."""
        self._forget(self._steady())
        return list(self._entries.values())

    def approve(self, name: str, seconds: float | None, by: str) -> list[Question]:
        """Let what ``name`` (an id, or a terminal's name or subject) asks for pass. Raises AgentError."""
        return self._say("approved", name, seconds, by)

    def deny(self, name: str, seconds: float | None, by: str) -> list[Question]:
        """Refuse it, and withdraw what was approved. Raises AgentError."""
        return self._say("denied", name, seconds, by)

    def on_learned(self, learned: Callable[[], None]) -> None:
        self._learned = learned

    def on_said(self, said: Callable[[str, Question, str, float], None]) -> None:
        """Tell ``said`` what was decided, of what, by whom, for how many seconds, before anything follows."""
        self._said = said

    async def run(self) -> None:
        """Ends approvals in time: whoever watches by one is judged again at that moment."""
        while True:
            self._wake.clear()
            now = self._steady()
            if self._forget(now):
                self._learned()
            due = min((e.until for e in self._entries.values() if e.state != "pending"), default=now + 3600)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - now)):
                    await self._wake.wait()

    def _say(self, state: str, name: str, seconds: float | None, by: str) -> list[Question]:
        now = self._steady()
        self._forget(now)
        found = [entry for entry in self._entries.values() if _is_called(entry.question, name)]
        if not found:
            raise AgentError(
                "no-such-request", f"Nobody asks as {name!r}.", "'dongled requests' shows who does."
            )
        if len({(entry.question.terminal, entry.question.leaf) for entry in found}) > 1:
            raise AgentError(
                "ambiguous-request", f"Several requests are called {name!r}.", "Give the request's id."
            )
        lasts = self._lasts if seconds is None else seconds
        for entry in found:
            entry.state, entry.by, entry.until = state, by, now + lasts
            self._said(state, entry.question, by, lasts)
        self._wake.set()
        self._learned()
        return [entry.question for entry in found]

    def _forget(self, now: float) -> bool:
        """Drop what nobody asks any more and what ran out; whether something did run out."""
        over = [i for i, e in self._entries.items() if e.state != "pending" and now >= e.until]
        idle = [i for i, e in self._entries.items() if e.state == "pending" and now - e.asked > IDLE]
        for each in (*over, *idle):
            del self._entries[each]
        return bool(over)

    def _make_room(self, question: Question) -> None:
        theirs = [e for e in self._entries.values() if e.question.terminal == question.terminal]
        if len(theirs) >= MOST_EACH or len(self._entries) >= MOST:
            raise PolicyRefused(
                "operator-full",
                "too many requests wait for the operator",
                "approve or deny those that 'dongled requests' shows",
            )


def _is_called(question: Question, name: str) -> bool:
    terminal = question.terminal
    return name in (question.id, terminal, terminal.removeprefix("urn:uuid:"), question.subject)
