"""What a camera costs that is in its meeting while nobody watches: ``python bench/idle.py [SECONDS]``.

A real meeting on a Janus of its own. The processor's seconds of the daemon and its token's worker are the
kernel's (proc(5)); the test picture, 1280x720 at 30 a second, is drawn by the daemon and counts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from dongled.agent.control.client import fetch_status
from dongled.agent.demo import namespace
from dongled.agent.demo.commands import start, stop
from dongled.agent.demo.janus import JanusServer
from dongled.agent.demo.provision import make_authority, make_terminal, settings_text
from dongled.agent.errors import AgentError

SETTLE = 5.0


def seconds_used(pid: int) -> float:
    """Of a process and of its children, user and system."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    total = 0
    for each in (pid, *children):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def joined(socket: Path) -> bool:
    try:
        return asyncio.run(fetch_status(socket)).meetings[0].state == "joined"
    except AgentError:
        return False


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        authority = make_authority(directory)
        camera = make_terminal(directory, "camera", "publisher", authority)
        with JanusServer(directory / "janus") as janus:
            settings = camera.folder / "idle.toml"
            settings.write_text(
                settings_text(camera, authority.root, camera.urn, camera.urn, janus.url, "required")
            )
            process = start("run", "--config", settings, env=camera.env, log=camera.folder / "log")
            try:
                while not joined(camera.folder / "control.sock"):
                    time.sleep(0.1)
                time.sleep(SETTLE)
                used, began = seconds_used(process.pid), time.monotonic()
                time.sleep(seconds)
                share = (seconds_used(process.pid) - used) / (time.monotonic() - began)
            finally:
                stop(process)
    sys.stdout.write(f"joined, nobody watches: {100 * share:.2f} % of a core over {seconds:.0f} s\n")


if __name__ == "__main__":
    if not namespace.inside():
        namespace.enter([sys.executable, *sys.argv])
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
