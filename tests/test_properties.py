"""The table of properties fails for what is not attacked, and counts what is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.properties import promised

PAGE = Path(__file__).parents[1] / "docs/protocol.md"
PLUGIN = """
import pytest
from support.properties import PropertyTable
def pytest_configure(config):
    config.addinivalue_line("markers", "property(name): x")
    config.pluginmanager.register(PropertyTable({"P1": "nobody listens", "P2": "nobody speaks"}))
"""
GOOD = """
import pytest
@pytest.mark.property("P1")
@pytest.mark.property("P2")
@pytest.mark.parametrize("n", [1, 2])
def test_both(n): pass
@pytest.mark.property("P2")
def test_two(): pass
def test_of_nothing(): assert False
"""


def run(folder: Path, tests: str) -> tuple[int, dict[str, list[str]], str]:
    """Exit status, the table's last two columns by property, and all output."""
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
    table = re.findall(r"^(P[12]) +nobody \w+ +(\d+)  (.+)$", done.stdout, re.MULTILINE)
    return done.returncode, {name: [count, result] for name, count, result in table}, done.stdout


def test_what_is_attacked_in_vain_holds(tmp_path: Path) -> None:
    status, table, output = run(tmp_path, GOOD)
    assert status == 0, output
    assert table == {"P1": ["2", "holds"], "P2": ["3", "holds"]}
    assert "1 deselected" in output


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (("test_two(): pass", "test_two(): assert False"), ["3", "FAILED (1)"]),
        (("test_two(): pass", "test_two(): pytest.skip('no')"), ["3", "NOT RUN (1)"]),
        (("test_two(): pass", "test_two(tmp_pat): pass"), ["3", "FAILED (1)"]),
        (('"P2"', '"P1"'), ["0", "NO TEST"]),
    ],
)
def test_what_is_not_shown_to_hold_fails_the_run(
    tmp_path: Path, change: tuple[str, str], result: list[str]
) -> None:
    status, table, output = run(tmp_path, GOOD.replace(*change))
    assert status == 1, output
    assert table["P2"] == result


def test_a_property_that_the_page_does_not_have_is_an_error(tmp_path: Path) -> None:
    status, _, output = run(tmp_path, GOOD.replace('"P2"', '"P15"'))
    assert status == 4, output


def test_the_page_has_all_fourteen() -> None:
    page = promised(PAGE.read_text())
    assert list(page) == [f"P{n}" for n in range(1, 15)]
    assert all(len(says) > 20 for says in page.values())
