"""The operator's word: about what was asked, by whom, for so long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.policy.authorizer.questions import question
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.authorizer.operator import IDLE, MOST, MOST_EACH, Operator
from support.authority import OTHER_TERMINAL, TERMINAL

pytestmark = pytest.mark.property("P3")


class Office:
    def __init__(self) -> None:
        self.time = 1000.0
        self.learned = 0
        self.told = asyncio.Event()
        self.operator = Operator(3600, steady=lambda: self.time)
        self.operator.on_learned(self._count)

    def _count(self) -> None:
        self.learned += 1
        self.told.set()

    def verdict(self, **changes: Any) -> str:
        try:
            return self.operator.decide(question(**changes), "camera")
        except PolicyRefused as error:
            return error.reason

    def refusal(self, call: Any, *arguments: Any) -> str:
        with pytest.raises(AgentError) as caught:
            call(*arguments)
        return caught.value.reason


@pytest.mark.parametrize("name", ["id", TERMINAL, TERMINAL.removeprefix("urn:uuid:"), "CN=nurse"])
async def test_approved_by_any_of_its_names(name: str) -> None:
    office = Office()
    assert office.verdict() == "operator-pending"
    asked = question().id if name == "id" else name
    assert office.operator.approve(asked, None, "root") == [question()]
    assert office.verdict() == "approved by root"
    assert office.learned == 1


@pytest.mark.parametrize(
    "other",
    [
        {"meeting": "ward-4"},
        {"terminal": OTHER_TERMINAL},
        {"subject": "CN=doctor"},
        {"leaf": "cd" * 32},
        {"roles": ("moderator", "viewer")},
        {"assurance": "software"},
        {"streams": ("camera", "screen", "vault")},
        {"evidence": ("user-present",)},
    ],
)
async def test_approved_is_what_was_asked_and_nothing_else(other: dict[str, Any]) -> None:
    office = Office()
    office.verdict()
    office.operator.approve(question().id, None, "root")
    assert office.verdict(**other) == "operator-pending"


async def test_it_ends_in_time_and_is_judged_again_then() -> None:
    office = Office()
    office.verdict()
    office.operator.approve(TERMINAL, 30, "root")
    running = asyncio.create_task(office.operator.run())
    await asyncio.sleep(0)
    office.time += 31
    assert office.verdict() == "operator-pending"
    office.operator.approve(TERMINAL, 0.01, "root")
    office.told.clear()
    office.time += 1
    async with asyncio.timeout(20):
        await office.told.wait()
    running.cancel()
    assert office.operator.entries() == []


async def test_denied_and_changed_minds() -> None:
    office = Office()
    office.verdict()
    office.operator.approve(TERMINAL, None, "root")
    office.operator.deny(TERMINAL, 60, "alice")
    assert office.verdict() == "operator-denied"
    office.time += 61
    assert office.verdict() == "operator-pending"
    office.operator.deny(TERMINAL, None, "alice")
    office.operator.approve(TERMINAL, None, "root")
    assert office.verdict() == "approved by root"


async def test_names_that_are_nobody_s_or_several() -> None:
    office = Office()
    assert office.refusal(office.operator.approve, TERMINAL, None, "root") == "no-such-request"
    office.verdict()
    office.verdict(leaf="cd" * 32)
    assert office.refusal(office.operator.approve, "CN=nurse", None, "root") == "ambiguous-request"
    assert office.verdict() == "operator-pending"


async def test_two_meetings_of_one_terminal_are_approved_together() -> None:
    office = Office()
    office.verdict()
    office.verdict(meeting="ward-4")
    assert len(office.operator.approve(TERMINAL, None, "root")) == 2


async def test_limits() -> None:
    office = Office()
    for n in range(MOST_EACH):
        assert office.verdict(leaf=f"{n:064}") == "operator-pending"
    assert office.verdict() == "operator-full"
    assert office.verdict(terminal=OTHER_TERMINAL) == "operator-pending"
    for n in range(MOST):
        office.verdict(terminal=f"urn:uuid:{n}")
    assert len(office.operator.entries()) == MOST
    # Who asks no more makes room.
    office.time += IDLE + 1
    assert office.verdict() == "operator-pending"
    assert len(office.operator.entries()) == 1
