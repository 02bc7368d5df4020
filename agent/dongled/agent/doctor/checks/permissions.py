"""Can the daemon's user read what it needs, can nobody else write it, and do the groups exist?"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dongled.agent.doctor.api import Check, Finding, failed, fatal, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.process import confinement
from dongled.config.api import Settings, default_path, inputs

# Of sysusers.conf. Where another user was chosen, the daemon that runs tells.
_SERVICE_USER = "dongled"


@dataclass(frozen=True, slots=True)
class User:
    """As whom the daemon runs, or would."""

    uid: int

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"

    def reads(self, path: Path) -> bool:
        """Asked as that user, since root may read everything; True where that cannot be asked."""
        if self.uid == os.geteuid():
            return os.access(path, os.R_OK)
        if os.geteuid() != 0:
            return True
        entry = pwd.getpwuid(self.uid)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        command = ["test", "-r", str(path)]
        # From /, since it need not be let in where we are.
        asked = subprocess.run(
            command, user=self.uid, group=entry.pw_gid, extra_groups=groups, cwd="/", check=False
        )
        return asked.returncode == 0


def user_of(case: TerminalCase) -> User:
    etc = default_path(None).parent
    if case.daemon is not None:
        with contextlib.suppress(OSError, ValueError):
            return User(confinement(case.daemon.pid).uid)
    elif os.geteuid() == 0 and any(file.is_relative_to(etc) for file in case.files):
        with contextlib.suppress(KeyError):
            return User(pwd.getpwnam(_SERVICE_USER).pw_uid)
    return User(os.geteuid())


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
    try:
        status = directory.stat()
    except OSError:
        return  # it is made at the first start
    if status.st_uid != user.uid:
        text = f"it belongs to {User(status.st_uid).name}, and the daemon runs as {user.name}"
        yield failed(text, f"chown -R {user.name} {directory}", about=str(directory))
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
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
