"""How much room is left where the daemon writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dongled.agent.status import DiskStatus
from dongled.config.api import Settings


def directories(settings: Settings) -> list[Path]:
    """Where state, audit log and sinks are written to."""
    audit = settings.audit
    logs = [audit.directory] if audit.enabled and audit.directory is not None else []
    sinks = [sink.path for meeting in settings.meeting for sink in meeting.sink if sink.path is not None]
    # A peer's name makes the directories below the first one that has it.
    return [
        settings.state.directory,
        *logs,
        *(Path(str(path).split("{", 1)[0] + "x").parent for path in sinks),
    ]


def look_at(paths: Iterable[Path]) -> list[DiskStatus]:
    """Each file system once, by the first path on it; one that is not there counts by its parent."""
    found: dict[int, DiskStatus] = {}
    for path in paths:
        try:
            existing = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
            device, space = existing.stat().st_dev, os.statvfs(existing)
        except OSError:  # a disk that fails, a directory that we may not look into
            continue
        # What root may still use is not ours (statvfs(3), f_bavail).
        status = DiskStatus(str(path), space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize)
        found.setdefault(device, status)
    return list(found.values())
