"""The table of ``make properties``: what docs/protocol.md promises, and what became of the attacks on it.

With ``--properties`` only tests marked ``property`` run, and a property that no test attacked successfully
makes the run fail, as a failed test does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.marked import MarkedTable, Outcome

ROW = re.compile(r"^\| (P[0-9]+) \| ([^|]+?) \|", re.MULTILINE)


def promised(page: str) -> dict[str, str]:
    """Each property's name and what it says, from the table of the page's first section."""
    return dict(ROW.findall(page))


class PropertyTable(MarkedTable[str]):
    """``says`` is what ``promised`` made of the page: a property without a test is a row, too."""

    title = "properties"

    def __init__(self, says: dict[str, str]) -> None:
        super().__init__({name: Outcome() for name in says})
        self._says = says

    def rows(self, item: pytest.Item) -> Sequence[str]:
        names = [mark.args[0] for mark in item.iter_markers("property")]
        if unknown := set(names) - set(self._says):
            raise pytest.UsageError(f"no such property in docs/protocol.md: {', '.join(sorted(unknown))}")
        return names

    def lines(self) -> Sequence[str]:
        rows = [
            (name, says, str(len(self.outcomes[name].tests)), self.outcomes[name].result("holds"))
            for name, says in self._says.items()
        ]
        rows.insert(0, ("", "property", "tests", "result"))
        width = max(len(says) for _, says, _, _ in rows)
        return [f"{name:<4} {says:<{width}} {tests:>5}  {result}" for name, says, tests, result in rows]


def register(config: pytest.Config) -> None:
    """Take part in this run if it was asked for ``--properties``."""
    if config.getoption("--properties"):
        page = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
        config.pluginmanager.register(PropertyTable(promised(page)))
