"""The table of ``make faults``: what happens to tokens, on what kind of token it was played, and the result.

With ``--faults`` only tests marked ``fault`` run.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from support.marked import MarkedTable

# What a test runs on, by the fixture that it asks for; the first that fits. A parameter's id says it better.
_BACKENDS = {
    "meet": "opensc", "prepared": "ykcs11", "card": "PIV card", "blank": "PIV card",
    "tpm": "tpm2", "cards": "ykcs11", "token": "softhsm", "opened": "softhsm", "launch": "softhsm",
}  # fmt: skip
_MODULES = ("opensc", "ykcs11", "softhsm", "tpm2")


def backend(item: pytest.Item) -> str:
    """``-`` for a test that has no token."""
    asked = getattr(item, "fixturenames", ())
    for part in item.name.partition("[")[2].rstrip("]").split("-"):
        if part in _MODULES:
            return part
    return next((name for fixture, name in _BACKENDS.items() if fixture in asked), "-")


class FaultTable(MarkedTable[tuple[str, str]]):
    """A row is a fault and a backend."""

    title = "faults"

    def __init__(self) -> None:
        super().__init__({})

    def rows(self, item: pytest.Item) -> Sequence[tuple[str, str]]:
        return [
            (mark.args[0], mark.kwargs.get("backend") or backend(item)) for mark in item.iter_markers("fault")
        ]

    def lines(self) -> Sequence[str]:
        rows = [(*row, self.outcomes[row].result("survived")) for row in sorted(self.outcomes)]
        rows.insert(0, ("fault", "backend", "result"))
        wide = max(len(fault) for fault, _, _ in rows)
        return [f"{fault:<{wide}}  {on:<12}  {result}" for fault, on, result in rows]


def register(config: pytest.Config) -> None:
    """Take part in this run if it was asked for ``--faults``."""
    if config.getoption("--faults"):
        config.pluginmanager.register(FaultTable())
