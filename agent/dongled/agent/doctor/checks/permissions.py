"""Can the daemon's user read what it needs, can nobody else write it, and do the groups exist?"""

from __future__ import annotations

import asyncio
import grp
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from dongled.agent.doctor.api import Check, Finding, failed, fatal, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.user import User, user_of
from dongled.config.api import Settings, inputs


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.settings is None:
        return [skipped("the settings cannot be used")]
    return await asyncio.to_thread(examine, case.settings, case.files, user_of(case))


def examine(settings: Settings, files: Iterable[Path], user: User) -> list[Finding]:
    """``files`` are those that the settings were read from."""
    paths = list(dict.fromkeys([*files, *(path for _, path, _ in inputs(settings))]))
    found = [
        *_writable(paths, user),
        *_unreadable(paths, user),
        *_state(settings.state.directory, user),
        *_control(settings),
    ]
    return found or [ok(f"files, directories and groups are as {user.name} needs them")]


def _writable(paths: Iterable[Path], user: User) -> Iterator[Finding]:
    """Who can change the settings, or the root certificates, decides whom the terminal believes."""
    absolute = [path.absolute() for path in paths]
    for path in dict.fromkeys([*absolute, *(each.parent for each in absolute)]):
        try:
            status = path.stat()
        except OSError:
            continue  # told by whoever reads it
        if _open_to_all(status):
            yield fatal("everybody may change it", f"chmod o-w {path}", about=str(path))
        elif status.st_uid not in (0, user.uid, os.geteuid()):
            text = f"it belongs to {User(status.st_uid).name}, who may change it"
            yield warning(text, f"chown root {path}", about=str(path))


def _open_to_all(status: os.stat_result) -> bool:
    """In a sticky directory, such as /tmp, everybody's files are their own."""
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return bool(status.st_mode & stat.S_IWOTH) and not sticky


def _unreadable(paths: Iterable[Path], user: User) -> Iterator[Finding]:
    for path in paths:
        if path.exists() and not user.reads(path):
            hint = f"the files must be {user.name}'s or of its group, and so must their directories"
            yield failed(f"{user.name} may not read it", hint, about=str(path))


def _state(directory: Path, user: User) -> Iterator[Finding]:
    """What root wrote there, by a command called by hand, the daemon can neither read nor replace."""
    try:
        found = [directory, *sorted(directory.rglob("*"))]
        status = directory.stat()
        foreign = [path for path in found if path.lstat().st_uid != user.uid]
    except OSError:
        return  # it is made at the first start, and shown to nobody else
    if foreign:
        more = f", nor are {len(foreign) - 1} more" if len(foreign) > 1 else ""
        text = f"{foreign[0]} is not of {user.name}, as whom the daemon runs{more}"
        yield failed(text, f"chown -R {user.uid} {directory}", about=str(directory))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield failed("others may write there", f"chmod 700 {directory}", about=str(directory))


def _control(settings: Settings) -> Iterator[Finding]:
    for key, name in (("group", settings.control.group), ("operators", settings.control.operators)):
        if name is not None and not _is_group(name):
            hint = f"addgroup --system {name}, or leave it out"
            yield failed(f"there is no group {name!r}", hint, about=f"control.{key}")
    parent = settings.control.socket.parent
    if parent.is_dir() and _open_to_all(parent.stat()):
        text = "everybody may put another socket in its place"
        yield fatal(text, f"chmod o-w {parent}", about=str(settings.control.socket))


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


CHECK = Check("permissions", "Files, directories and groups are the daemon's", look)
