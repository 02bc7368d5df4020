"""A real systemd-journald, in a mount namespace where /run and /var/log are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd
ln -s journal.test /run/systemd/journal
/lib/systemd/systemd-journald test >"$1/journald.log" 2>&1 &
journald=$!
trap 'kill $journald; wait $journald || true' EXIT
for _ in $(seq 600); do
    [ -S /run/systemd/journal/socket ] && break
    sleep 0.1
done
"$2" "$3" 2>"$1/stderr"
for _ in $(seq 600); do
    journalctl --file '/var/log/journal/*/*.journal' --all --output json "$4" \\
        >"$1/entries" 2>"$1/journalctl.log" || true
    if [ "$(wc -l <"$1/entries")" -ge "$5" ]; then break; fi
    sleep 0.1
done
"""


def entries_of(folder: Path, program: str, match: str, count: int) -> list[dict[str, Any]]:
    """What the journal holds that matches (journalctl(1)) after ``program`` (Python) has logged ``count``."""
    (folder / "program.py").write_text(program)
    arguments: list[str | Path] = [folder, sys.executable, folder / "program.py", match, str(count)]
    subprocess.run(["unshare", "--mount", "bash", "-c", _SCRIPT, "-", *arguments], check=True, timeout=100)
    return [json.loads(line) for line in (folder / "entries").read_text().splitlines()]
