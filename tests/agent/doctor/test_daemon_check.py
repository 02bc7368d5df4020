"""A daemon that runs, one that was never started, and one that ended for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from dongled.agent.doctor import case as case_module
from dongled.agent.doctor.api import Finding, Level
from dongled.agent.doctor.case import TerminalCase, asked
from dongled.agent.doctor.checks.daemon import CHECK
from dongled.agent.status import WarningStatus
from support.statuses import well


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_module, "identity_claimed", lambda: False)


def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, state: str) -> None:
    """systemctl(1) as far as show goes; it fails where it was asked for another unit."""
    program = tmp_path / "systemctl"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *" dongled@lab.service") ;; *) exit 1 ;; esac\n'
        f"echo Result=exit-code\necho ExecMainStatus=78\necho ActiveState={state}\n"
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
    systemctl(tmp_path, monkeypatch, state=state)
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
