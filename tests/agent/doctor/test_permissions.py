"""Files that others may change, or that the daemon's user may not read, and groups that are not there."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dongled.agent.doctor.api import Level
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks.permissions import CHECK, examine
from dongled.agent.doctor.user import User, user_of
from dongled.config.api import Settings
from support.statuses import well

ME = User(os.geteuid())
NOBODY = User(pwd.getpwnam("nobody").pw_uid)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where everybody may look, as in /etc; pytest's own directories are closed to others."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        (Path(made) / "root.pem").touch(mode=0o644)
        (Path(made) / "dongled.toml").touch(mode=0o640)
        yield Path(made)


def found(place: Path, user: User = ME, **tables: Any) -> dict[str, tuple[Level, str]]:
    settings = Settings.model_validate(
        {
            "state": {"directory": place / "state"},
            "trust": {"roots": [place / "root.pem"]},
            "control": {"socket": place / "control.sock"},
            **tables,
        }
    )
    findings = examine(settings, [place / "dongled.toml"], user)
    return {finding.about.removeprefix(f"{place}/"): (finding.level, finding.text) for finding in findings}


def test_all_is_well(place: Path) -> None:
    (place / "state").mkdir(mode=0o700)
    assert [level for level, _ in found(place).values()] == [Level.OK]


def test_who_may_write_the_roots_decides_whom_the_terminal_believes(place: Path) -> None:
    (place / "root.pem").chmod(0o666)
    assert found(place)["root.pem"] == (Level.FATAL, "everybody may change it")
    (place / "root.pem").chmod(0o644)
    os.chown(place / "dongled.toml", 4711, 0)
    level, text = found(place)["dongled.toml"]
    assert (level, "4711" in text) == (Level.WARNING, True)


def test_a_directory_that_everybody_may_write(place: Path) -> None:
    place.chmod(0o777)
    told = found(place)
    assert told[str(place)][0] is told["control.sock"][0] is Level.FATAL
    # In a sticky one everybody's files are their own.
    place.chmod(0o1777)
    assert [level for level, _ in found(place).values()] == [Level.OK]


def test_what_root_may_read_and_the_service_may_not(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would end with 78, and root, who looks for the reason, sees nothing wrong."""
    assert found(place, NOBODY)["dongled.toml"] == (Level.FAILED, "nobody may not read it")
    os.chown(place / "dongled.toml", 0, pwd.getpwnam("nobody").pw_gid)
    assert [level for level, _ in found(place, NOBODY).values()] == [Level.OK]
    monkeypatch.chdir(place)
    assert NOBODY.reads(Path("dongled.toml"))


def test_a_state_directory_of_another_user(place: Path) -> None:
    (place / "state").mkdir(mode=0o700)
    level, text = found(place, NOBODY)["state"]
    assert (level, "nobody, as whom the daemon runs" in text) == (Level.FAILED, True)
    (place / "state").chmod(0o770)
    assert found(place)["state"] == (Level.FAILED, "others may write there")


def test_a_group_that_is_not_there(place: Path) -> None:
    control = {"socket": place / "control.sock", "group": "video", "operators": "no-such-group"}
    told = found(place, control=control)
    assert told == {"control.operators": (Level.FAILED, "there is no group 'no-such-group'")}


def test_what_root_left_in_the_state_of_another_user(place: Path) -> None:
    """A command called by hand, as root, makes files that the daemon can neither read nor replace."""
    (place / "state/certificates").mkdir(parents=True)
    os.chown(place / "state", NOBODY.uid, -1)
    os.chown(place / "dongled.toml", NOBODY.uid, -1)
    level, text = found(place, NOBODY)["state"]
    assert (level, str(place / "state/certificates") in text) == (Level.FAILED, True)
    os.chown(place / "state/certificates", NOBODY.uid, -1)
    assert [level for level, _ in found(place, NOBODY).values()] == [Level.OK]


async def test_whose_files_they_have_to_be(place: Path) -> None:
    settings = Settings.model_validate({"state": {"directory": place / "state"}})
    assert user_of(TerminalCase(None)) == user_of(TerminalCase(settings)) == ME
    (place / "state").mkdir()
    os.chown(place / "state", NOBODY.uid, -1)
    assert user_of(TerminalCase(settings)) == NOBODY
    # A daemon that runs is whose it is.
    status = well()
    status.pid = os.getpid()
    assert user_of(TerminalCase(settings, daemon=status)) == ME
    assert [each.level for each in await CHECK.look(TerminalCase(None))] == [Level.SKIPPED]
