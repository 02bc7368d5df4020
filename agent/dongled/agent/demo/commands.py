"""Runs ``dongled`` as a user would: the demo does nothing that the command line does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dongled.agent.errors import AgentError

PROGRAM = Path(sys.executable).with_name("dongled")
TIMEOUT = 60


def dongled(*arguments: str | Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Run a verb that knows ``--json`` and return what it says. Raises AgentError ``demo-step``."""
    command = [PROGRAM, *arguments, "--json"]
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode != 0:
        shown = " ".join(map(str, arguments))
        raise AgentError("demo-step", f"'dongled {shown}' failed: {done.stderr.strip()}")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def start(
    *arguments: str | Path, env: Mapping[str, str], log: Path, pipe: bool = False
) -> subprocess.Popen[bytes]:
    """Start a ``dongled`` that stays; it logs to ``log``, and writes to a pipe if ``pipe``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [PROGRAM, *arguments],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else output,
            stderr=output,
        )


def stop(process: subprocess.Popen[bytes], seconds: float = 15.0) -> int:
    """Ask a process to end, wait for it, and make it end; its exit status."""
    process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
