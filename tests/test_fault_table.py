"""The table of faults has a row for each fault and backend, and fails for what did not pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
import pytest
from support.faults import FaultTable
def pytest_configure(config):
    config.addinivalue_line("markers", "fault(name): x")
    config.pluginmanager.register(FaultTable())
@pytest.fixture
def token(): pass
@pytest.fixture
def card(): pass
"""
GOOD = """
import pytest
@pytest.mark.fault("pulled")
@pytest.mark.parametrize("module", ["opensc", "ykcs11"])
def test_cards(card, module): pass
@pytest.mark.fault("pulled")
def test_soft(token): pass
@pytest.mark.fault("slow")
def test_slow(card): pass
@pytest.mark.fault("slow")
def test_slower(card): pass
@pytest.mark.fault("unplugged")
def test_none(): pass
def test_of_nothing(): assert False
"""
ROWS = {
    ("pulled", "opensc"): "survived",
    ("pulled", "softhsm"): "survived",
    ("pulled", "ykcs11"): "survived",
    ("slow", "PIV card"): "survived",
    ("unplugged", "-"): "survived",
}


def run(folder: Path, tests: str) -> tuple[int, dict[tuple[str, str], str], str]:
    """Exit status, the results by fault and backend, and all output."""
    (folder / "conftest.py").write_text(PLUGIN)
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "."]
    done = subprocess.run(
        [*command, "-o", f"pythonpath={Path(__file__).parent}", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    table = re.findall(r"^(pulled|slow|unplugged)  +(\S.*?)  +(\S.*)$", done.stdout, re.MULTILINE)
    return done.returncode, {(fault, on): result for fault, on, result in table}, done.stdout


def test_what_is_survived(tmp_path: Path) -> None:
    status, table, output = run(tmp_path, GOOD)
    assert status == 0, output
    assert table == ROWS
    assert "1 deselected" in output


@pytest.mark.parametrize(
    ("change", "row", "result"),
    [
        (("slower(card): pass", "slower(card): assert 0"), ("slow", "PIV card"), "FAILED (1)"),
        (("soft(token): pass", "soft(token): pytest.skip('no')"), ("pulled", "softhsm"), "NOT RUN (1)"),
        (("module): pass", "module): assert module != 'ykcs11'"), ("pulled", "ykcs11"), "FAILED (1)"),
    ],
)  # fmt: skip
def test_what_is_not_survived_fails_the_run(
    tmp_path: Path, change: tuple[str, str], row: tuple[str, str], result: str
) -> None:
    status, table, output = run(tmp_path, GOOD.replace(*change))
    assert status == 1, output
    assert table == ROWS | {row: result}
