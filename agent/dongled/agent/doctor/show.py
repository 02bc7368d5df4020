"""Results for people and for programs, and as an exit status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from dongled.agent.doctor.api import Level, Result, worst

# 1 and 2 are taken: it could not be done, and the command line was wrong.
EXIT_STATUS = {Level.OK: 0, Level.SKIPPED: 0, Level.WARNING: 3, Level.FAILED: 4, Level.FATAL: 5}


def exit_status(results: Sequence[Result]) -> int:
    """Of the worst level."""
    return EXIT_STATUS[worst(result.level for result in results)]


def lines(result: Result) -> Iterator[str]:
    """A line for each finding, and one for each hint."""
    for finding in result.findings:
        about = f"{finding.about}: " if finding.about else ""
        yield f"{finding.level:<8} {result.id}: {about}{finding.text}"
        if finding.hint and finding.level is not Level.OK:
            yield f"{'':<9}-> {finding.hint}"


def summary(results: Sequence[Result]) -> str:
    levels = [finding.level for result in results for finding in result.findings]
    return ", ".join(f"{levels.count(level)} {level}" for level in Level if level in levels)


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """``level`` is the worst of all."""
    return {
        "level": worst(result.level for result in results),
        "checks": [{**asdict(result), "level": result.level} for result in results],
    }
