"""Checks are run one by one: none that breaks, hangs or finds nothing stops another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from dongled.agent.doctor.api import Check, Finding, Level, failed, ok, skipped, warning, worst
from dongled.agent.doctor.checks import CHECKS
from dongled.agent.doctor.examination import examine
from dongled.agent.doctor.show import EXIT_STATUS, as_json, exit_status, lines, summary
from dongled.agent.errors import AgentError


def finds(*findings: Finding) -> Callable[[str], Awaitable[Iterable[Finding]]]:
    async def look(case: str) -> Iterable[Finding]:
        return findings

    return look


async def hangs(case: str) -> Iterable[Finding]:
    await asyncio.Event().wait()
    return []


async def breaks(case: str) -> Iterable[Finding]:
    raise ZeroDivisionError(case)


async def reports(case: str) -> Iterable[Finding]:
    raise AgentError("sfu-unreachable", "nobody answers", "start it")


async def test_one_that_breaks_or_hangs_is_a_finding_and_the_next_is_run() -> None:
    checks = [
        Check("hangs", "", hangs, patience=0.01),
        Check("breaks", "", breaks),
        Check("reports", "", reports),
        Check("nothing", "", finds()),
        Check("good", "", finds(ok("well"))),
    ]
    found = {result.id: result.findings[0] async for result in examine(checks, "case")}
    assert {name: finding.level for name, finding in found.items()} == {
        "hangs": Level.FAILED,
        "breaks": Level.FAILED,
        "reports": Level.FAILED,
        "nothing": Level.OK,
        "good": Level.OK,
    }
    assert "0.01 s" in found["hangs"].text
    assert "ZeroDivisionError" in found["breaks"].text
    assert found["reports"] == failed("nobody answers [sfu-unreachable]", "start it")


async def test_the_exit_status_says_the_worst_level() -> None:
    assert worst([]) is Level.OK
    for level in Level:
        check = Check("one", "", finds(ok("a"), Finding(level, "b", "do c"), ok("d")))
        results = [result async for result in examine([check], "case")]
        assert exit_status(results) == EXIT_STATUS[level]
        assert as_json(results)["level"] == level
    assert list(EXIT_STATUS.values()) == [0, 0, 3, 4, 5]


async def test_what_is_shown_has_a_hint_only_where_something_is_to_be_done() -> None:
    found = [ok("x", about="front"), warning("y", "mend it"), skipped("z")]
    results = [result async for result in examine([Check("one", "", finds(*found))], "")]
    assert list(lines(results[0])) == [
        "ok       one: front: x",
        "warning  one: y",
        "         -> mend it",
        "skipped  one: z",
    ]
    assert summary(results) == "1 ok, 1 skipped, 1 warning"


def test_ids_are_stable_names_each_used_once() -> None:
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each) for each in ids)
    assert all(check.title for check in CHECKS)


def test_the_manual_lists_each_check() -> None:
    manual = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    section = manual.split("\n### Doctor\n", 1)[1].split("\n#", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = [name for row in rows for name in re.findall("`([a-z-]+)`", row)]
    assert sorted(told) == sorted(check.id for check in CHECKS)
