"""What can be wrong with the settings: every problem found, each with its place and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EX_CONFIG = 78  # sysexits.h


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: ``where`` names the file or variable, ``key`` is the dotted path in what all make
    together; ``table`` is a name for the table that it is in, which several files may have part in."""

    where: str
    key: str
    text: str
    table: str = ""

    def __str__(self) -> str:
        key = f"{self.key} ({self.table})" if self.table else self.key
        return ": ".join(part for part in (self.where, key, self.text) if part)


class ConfigError(Exception):
    """The settings cannot be used.

    ``reason`` is a stable short name, ``hint`` says what to do, ``problems`` holds every finding,
    ``exit_code`` is the exit status of a command that ends with it. None of them holds a value.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        hint: str = "",
        exit_code: int = EX_CONFIG,
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint
        self.exit_code = exit_code
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        """All problems of one configuration as one error, a line each."""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        return cls(
            "config-invalid",
            f"the configuration has {count}:\n{lines}",
            "mend them and run `dongled config check`",
            problems=problems,
        )
