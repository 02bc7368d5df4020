"""As whom the daemon runs, or would: whoever examines it is often somebody else."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.process import confinement
from dongled.config.api import Settings, default_path

# Of sysusers.conf.
_SERVICE_USER = "dongled"


@dataclass(frozen=True, slots=True)
class User:
    uid: int

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"

    @property
    def asks(self) -> bool:
        """Is it who examines?"""
        return self.uid == os.geteuid()

    def reads(self, path: Path) -> bool:
        """Asked as that user, since root may read everything; True where that cannot be asked."""
        if self.asks:
            return os.access(path, os.R_OK)
        if os.geteuid() != 0:
            return True
        try:
            entry = pwd.getpwuid(self.uid)
            group, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
        except KeyError:
            group, groups = self.uid, []
        command = ["test", "-r", str(path.absolute())]
        # From /, since it need not be let in where we are.
        asked = subprocess.run(command, user=self.uid, group=group, extra_groups=groups, cwd="/", check=False)
        return asked.returncode == 0


def user_of(case: TerminalCase) -> User:
    """By the process; of one that does not run as ``expected_user``."""
    if case.daemon is not None:
        with contextlib.suppress(OSError, ValueError):
            return User(confinement(case.daemon.pid).uid)
    return User(os.geteuid()) if case.settings is None else expected_user(case.settings, case.files)


def expected_user(settings: Settings, files: Iterable[Path] = ()) -> User:
    """Whose the state is; where there is none yet, the service's, if the settings are; or who examines."""
    with contextlib.suppress(OSError):
        return User(settings.state.directory.stat().st_uid)
    if os.geteuid() == 0 and any(file.is_relative_to(default_path(None).parent) for file in files):
        with contextlib.suppress(KeyError):
            return User(pwd.getpwnam(_SERVICE_USER).pw_uid)
    return User(os.geteuid())
