"""The table of ``make properties``: what docs/protocol.md promises, and what became of the attacks on it.

With ``--properties`` only tests marked ``property`` run, and a property that no test attacked successfully
makes the run fail, as a failed test does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROW = re.compile(r"^\| (P[0-9]+) \| ([^|]+?) \|", re.MULTILINE)


def promised(page: str) -> dict[str, str]:
    """Each property's name and what it says, from the table of the page's first section."""
    return dict(ROW.findall(page))


@dataclass
class Attacks:
    """The tests of one property, by node id, and what came of them."""

    tests: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def result(self) -> str:
        if self.failed:
            return f"FAILED ({len(self.failed)})"
        if not self.tests:
            return "NO TEST"
        return "holds" if self.passed == self.tests else f"NOT RUN ({len(self.tests - self.passed)})"


class PropertyTable:
    """A pytest plugin; ``says`` is what ``promised`` made of the page."""

    def __init__(self, says: dict[str, str]) -> None:
        self._says = says
        self._attacks = {name: Attacks() for name in says}
        self._of: dict[str, list[Attacks]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        marked = {item: [mark.args[0] for mark in item.iter_markers("property")] for item in items}
        unknown = {name for names in marked.values() for name in names} - set(self._says)
        if unknown:
            raise pytest.UsageError(f"no such property in docs/protocol.md: {', '.join(sorted(unknown))}")
        for item, names in marked.items():
            self._of[item.nodeid] = [self._attacks[name] for name in names]
            for attacks in self._of[item.nodeid]:
                attacks.tests.add(item.nodeid)
        config.hook.pytest_deselected(items=[item for item in items if not marked[item]])
        items[:] = [item for item in items if marked[item]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for attacks in self._of[report.nodeid]:
            if report.failed:
                attacks.failed.add(report.nodeid)
            elif report.when == "call" and report.passed:
                attacks.passed.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and not self.holds:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def holds(self) -> bool:
        return all(attacks.result == "holds" for attacks in self._attacks.values())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("properties")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> Sequence[str]:
        """The table as text."""
        rows = [
            (name, says, str(len(self._attacks[name].tests)), self._attacks[name].result)
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
