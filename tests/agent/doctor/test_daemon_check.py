"""A daemon that runs, one that was never started, and one that ended for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from dongled.agent.doctor import case as case_module
from dongled.agent.doctor.api import Finding, Level
from dongled.agent.doctor.case import TerminalCase, asked
from dongled.agent.doctor.checks import restarts
from dongled.agent.doctor.checks.daemon import CHECK
from dongled.agent.status import WarningStatus
from support.statuses import well


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_module, "identity_claimed", lambda: False)


def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **told: object) -> None:
    """systemctl(1) as far as show goes; it fails where it was asked for another unit."""
    lines = "\\n".join(f"{name}={value}" for name, value in told.items())
    program = tmp_path / "systemctl"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *" dongled@lab.service") ;; *) exit 1 ;; esac\nprintf \'{lines}\\n\'\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


async def found(case: TerminalCase) -> Finding:
    (finding,) = await CHECK.look(case)
    return finding


@pytest.mark.parametrize(
    ("state", "level"), [("failed", Level.FATAL), ("inactive", Level.SKIPPED), ("activating", Level.SKIPPED)]
)
async def test_one_that_does_not_run(
    state: str, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, Result="exit-code", ExecMainStatus=78, ActiveState=state)
    case = await asked(TerminalCase(None, instance="lab"), tmp_path / "control.sock")
    finding = await found(case)
    assert finding.level is level
    if level is Level.FATAL:
        assert "exit status 78" in finding.text
        assert "journalctl -u dongled@lab" in finding.hint
    else:
        assert "[not-running]" in finding.text


async def test_where_there_is_no_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await found(TerminalCase(None))).level is Level.SKIPPED


async def test_one_that_runs() -> None:
    status = well()
    assert (await found(TerminalCase(None, daemon=status))).level is Level.OK
    status.warnings = [WarningStatus("token-absent", "it was pulled", "insert it again")]
    finding = await found(TerminalCase(None, daemon=status))
    assert (finding.level, finding.hint) == (Level.WARNING, "insert it again")
    assert "[token-absent]" in finding.text


@pytest.mark.parametrize(
    ("pid", "count", "level"),
    [(0, 0, Level.OK), (0, 3, Level.WARNING), (1, 3, Level.SKIPPED)],
    ids=["runs since it was started", "was started again", "is not the service's"],
)
async def test_how_often_it_was_started_again(
    pid: int, count: int, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = well()
    systemctl(tmp_path, monkeypatch, MainPID=status.pid + pid, NRestarts=count)
    (finding,) = await restarts.CHECK.look(TerminalCase(None, daemon=status, instance="lab"))
    assert finding.level is level
    if level is Level.WARNING:
        assert "3" in finding.text
        assert "journalctl -u dongled@lab" in finding.hint
