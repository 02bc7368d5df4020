"""What a check is, and what it finds. A check is one file of ``checks/``, and its id never changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Case = TypeVar("Case")


class Level(StrEnum):
    """How bad it is, from best to worst.

    ``SKIPPED``: it could not be looked at, or there is nothing to; ``FAILED``: something that is configured
    does not work; ``FATAL``: no meeting can work, or a secret lies open.
    """

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"
    FATAL = "fatal"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """``text`` says what was found, ``hint`` what to do; ``about`` which of several things it is about.

    Neither holds a secret, or what another terminal or server said without having been made printable.
    """

    level: Level
    text: str
    hint: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class Check(Generic[Case]):
    """``look`` examines a case, changing nothing, and tries no PIN.

    It may raise an error of any room, which is a finding of level FAILED. ``patience`` in seconds.
    """

    id: str
    title: str
    look: Callable[[Case], Awaitable[Iterable[Finding]]]
    patience: float = 20.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found: at least one finding."""

    id: str
    title: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        return worst(finding.level for finding in self.findings)


def worst(levels: Iterable[Level]) -> Level:
    return max(levels, key=lambda level: level.rank, default=Level.OK)


def ok(text: str, about: str = "") -> Finding:
    return Finding(Level.OK, text, "", about)


def skipped(text: str, hint: str = "", about: str = "") -> Finding:
    return Finding(Level.SKIPPED, text, hint, about)


def warning(text: str, hint: str, about: str = "") -> Finding:
    return Finding(Level.WARNING, text, hint, about)


def failed(text: str, hint: str, about: str = "") -> Finding:
    return Finding(Level.FAILED, text, hint, about)


def fatal(text: str, hint: str, about: str = "") -> Finding:
    return Finding(Level.FATAL, text, hint, about)


def of_error(error: Exception, about: str = "", level: Level = Level.FAILED) -> Finding:
    """An error of any room, which has a reason and a hint."""
    text = f"{error} [{getattr(error, 'reason', type(error).__name__)}]"
    return Finding(level, text, str(getattr(error, "hint", "")), about)
