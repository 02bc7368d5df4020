"""Tables of marked tests: a plugin that runs only tests with a mark, and says by rows what became of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pytest

Row = TypeVar("Row", bound=Hashable)


@dataclass
class Outcome:
    """The tests of one row, by node id, and what came of them."""

    tests: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def good(self) -> bool:
        return bool(self.tests) and self.passed == self.tests and not self.failed

    def result(self, good: str) -> str:
        if self.failed:
            return f"FAILED ({len(self.failed)})"
        if not self.tests:
            return "NO TEST"
        return good if self.good else f"NOT RUN ({len(self.tests - self.passed)})"


class MarkedTable(ABC, Generic[Row]):
    """A pytest plugin. A row whose tests did not all pass makes the run fail, as a failed test does."""

    title: str

    def __init__(self, outcomes: Mapping[Row, Outcome]) -> None:
        self.outcomes = dict(outcomes)
        self._of: dict[str, list[Outcome]] = {}

    @abstractmethod
    def rows(self, item: pytest.Item) -> Sequence[Row]:
        """Which rows the test counts for; none if it has no mark. Raises pytest.UsageError."""

    @abstractmethod
    def lines(self) -> Sequence[str]:
        """The table as text."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item in items:
            self._of[item.nodeid] = [
                self.outcomes.setdefault(row, Outcome()) for row in dict.fromkeys(self.rows(item))
            ]
            for outcome in self._of[item.nodeid]:
                outcome.tests.add(item.nodeid)
        config.hook.pytest_deselected(items=[item for item in items if not self._of[item.nodeid]])
        items[:] = [item for item in items if self._of[item.nodeid]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for outcome in self._of[report.nodeid]:
            if report.failed:
                outcome.failed.add(report.nodeid)
            elif report.when == "call" and report.passed:
                outcome.passed.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        good = all(outcome.good for outcome in self.outcomes.values())
        if session.exitstatus == pytest.ExitCode.OK and not good:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(self.title)
        for line in self.lines():
            terminalreporter.write_line(line)
