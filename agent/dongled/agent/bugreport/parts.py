"""What a report is made of: each part as text, or why it is not there."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

PROC = Path("/proc")
LINES = 5000
_MOST = 4 << 20  # characters; the newest are kept
_PATIENCE = 30.0  # seconds


class Missing(Exception):
    """A part is not there, and the text says why."""


def versions() -> dict[str, Any]:
    """Of dongled, of what it is made of, and of what it runs on."""
    found = {each.name: each.version for each in distributions()}
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "dongled": version("dongled"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "system": release.get("PRETTY_NAME", ""),
        "cores": os.cpu_count(),
        "packages": dict(sorted(found.items())),
    }


def journal(unit: str) -> str:
    """The service's log, its newest lines. Raises Missing."""
    return run("journalctl", f"--unit={unit}", "--output=short-iso-precise", f"--lines={LINES}", "--no-pager")


def unit_files(unit: str) -> str:
    """The unit with its drop-ins, and what became of it. Raises Missing."""
    return run("systemctl", "cat", "--no-pager", unit) + "\n" + run("systemctl", "show", "--no-pager", unit)


def process(pid: int) -> str:
    """Memory, limits and the number of descriptors of a process. Raises Missing."""
    try:
        texts = [(PROC / str(pid) / name).read_text() for name in ("status", "limits")]
        open_files = len(os.listdir(PROC / str(pid) / "fd"))
    except OSError as error:
        raise Missing(f"{error.filename}: {error.strerror}") from None
    return "\n".join([*texts, f"open files: {open_files}"])


def run(*command: str) -> str:
    """What a program of the system says. Raises Missing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise Missing(f"there is no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"{command[0]} did not end") from None
    if done.returncode != 0:
        raise Missing(f"{command[0]}: {_last(done.stderr.splitlines()) or f'exit status {done.returncode}'}")
    return done.stdout[-_MOST:]


def _last(lines: Sequence[str]) -> str:
    return lines[-1] if lines else ""
