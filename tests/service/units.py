"""The unit files, as systemd's own programs and a reader of theirs see them."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

UNITS = Path(__file__).parents[2] / "systemd"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def settings(unit: str) -> dict[str, list[str]]:
    """Each key of a unit file with its values, continued lines joined."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().replace("\\\n", "").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def as_systemd_starts(command: str) -> list[str]:
    """An ExecStart= split into arguments, with its escapes undone (systemd.service(5), Command lines)."""
    return shlex.split(command.replace("$$", "$").replace("%%", "%"))
