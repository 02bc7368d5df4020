"""debian/, as far as it can be judged without building: `make deb` takes minutes."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import click
import pytest

from dongled.agent.cli.main import main
from service.units import UNITS, run

ROOT = UNITS.parent
DEBIAN = ROOT / "debian"


def commands(command: click.Command, name: str) -> set[str]:
    found = {name}
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for one in command.list_commands(context):
            if (inner := command.get_command(context, one)) is not None:
                found |= commands(inner, f"{name}-{one}")
    return found


def test_the_package_has_the_projects_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (DEBIAN / "changelog").read_text().startswith(f"dongled ({project['version']}) ")


@pytest.mark.parametrize("link", sorted(path.name for path in DEBIAN.iterdir() if path.is_symlink()))
def test_what_is_linked_is_there(link: str) -> None:
    assert (DEBIAN / link).resolve().parent == UNITS


def test_everything_in_systemd_is_packaged() -> None:
    linked = {path.resolve().name for path in DEBIAN.iterdir() if path.is_symlink()}
    named = set(re.findall(r"systemd/(\S+)", (DEBIAN / "rules").read_text()))
    assert linked | named == {path.name for path in UNITS.iterdir()}


@pytest.mark.parametrize("script", ["postinst", "postrm", "prerm"])
def test_maintainer_scripts_are_shell_and_stop_at_an_error(script: str) -> None:
    path = DEBIAN / f"dongled.{script}"
    assert run("sh", "-n", path).returncode == 0
    assert path.read_text().startswith("#!/bin/sh\nset -e\n")
    assert "#DEBHELPER#" in path.read_text()


def test_the_part_that_can_be_left_out_is_imported_where_it_is_used() -> None:
    """dongled-camera holds OpenCV: nothing else may need it to be imported."""
    rooms = ("agent", "tokens", "capture", "media", "config")
    importing = [
        path.name
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"^import cv2|^from cv2", path.read_text(), re.MULTILINE)
    ]
    assert importing == []


def test_every_command_gets_a_manual_page(tmp_path: Path) -> None:
    done = run(sys.executable, DEBIAN / "manual.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.1" for name in commands(main, "dongled")}
    for page in tmp_path.iterdir():
        lines = page.read_text().splitlines()
        assert lines[0].startswith(".TH ")
        # roff(7): a line that begins with a dot is a request, and only ours may be.
        assert {line.split()[0] for line in lines if line.startswith((".", "'"))} <= {
            ".TH", ".SH", ".TP", ".B", ".BR",
        }  # fmt: skip
