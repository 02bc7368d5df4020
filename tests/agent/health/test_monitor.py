"""Since when something is wrong, when it is told, and when it is over."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from dongled.agent.health import monitor as module
from dongled.agent.health.disks import directories, look_at
from dongled.agent.health.monitor import HealthMonitor
from dongled.agent.status import DaemonStatus
from dongled.config.api import Settings, SettingsWarning
from support.statuses import well


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.status = well()
        self.chosen: list[SettingsWarning] = []
        self.monitor = HealthMonitor(self.facts, lambda: self.chosen, clock=lambda: self.now)

    def facts(self) -> DaemonStatus:
        copy = well()
        copy.token, copy.meetings[0].state = self.status.token, self.status.meetings[0].state
        copy.meetings[0].sending[0].frames_captured = int(30 * self.now)
        return copy

    def look(self, after: float = 2.0) -> list[str]:
        self.now += after
        self.monitor.look()
        return [each.id for each in self.monitor.warnings()]


def test_a_warning_lasts_as_long_as_its_condition_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    assert bench.look() == []
    bench.status.token.state, bench.status.token.why = "ABSENT", "it was pulled"
    assert bench.look() == ["token-absent"]
    bench.look(), bench.look()
    (found,) = bench.monitor.warnings()
    assert (found.seconds, found.hint) == (4.0, "insert it again; the terminal goes on by itself")
    assert [record.message for record in caplog.records] == [
        "token-absent: the token is ABSENT: it was pulled; insert it again; the terminal goes on by itself"
    ]
    bench.status.token.state = "READY"
    assert bench.look() == []
    assert caplog.records[-1].message == "no longer: token-absent"
    assert len(caplog.records) == 2


def test_what_passes_soon_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.status.meetings[0].state = "waiting"
    assert bench.look() == []
    assert bench.look(29.0) == []
    bench.status.meetings[0].state = "joined"
    assert bench.look() == []
    bench.status.meetings[0].state = "waiting"
    assert bench.look() == []
    assert bench.look(29.0) == []
    assert bench.look(1.0) == ["meeting-not-joined"]
    assert bench.monitor.warnings()[0].seconds == 30.0


def test_the_settings_warnings_come_first_and_follow_a_reload() -> None:
    bench = Bench()
    bench.status.token.state = "LOCKED"
    bench.chosen.append(SettingsWarning("pin-prompt", "somebody has to type", "pin-file"))
    assert bench.look() == ["pin-prompt", "token-locked"]
    bench.chosen.clear()
    assert bench.look() == ["token-locked"]


async def test_it_looks_by_itself_and_at_the_disks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()

    def facts() -> DaemonStatus:
        if monitor.disks:
            looked.set()
        return well()

    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monitor = HealthMonitor(facts, list, lambda: [tmp_path / "not" / "there"])
    running = asyncio.create_task(monitor.run())
    await asyncio.wait_for(looked.wait(), 20)
    running.cancel()
    assert [disk.path for disk in monitor.disks] == [str(tmp_path / "not" / "there")]


def test_each_file_system_counts_once(tmp_path: Path) -> None:
    found = look_at([tmp_path, tmp_path / "below", Path("/proc/self")])
    assert [disk.path for disk in found] == [str(tmp_path), "/proc/self"]
    assert 0 < found[0].free <= found[0].size


def test_a_disk_that_cannot_be_looked_at_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, stat = tmp_path / "dead", Path.stat

    def failing(path: Path, **more: bool) -> os.stat_result:
        if path == dead:
            raise OSError(errno.EIO, "Input/output error")
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", failing)
    assert [disk.path for disk in look_at([dead, tmp_path])] == [str(tmp_path)]


def test_where_is_written_to_is_taken_from_the_settings() -> None:
    settings = Settings.model_validate(
        {
            "state": {"directory": "/state"},
            "audit": {"directory": "/audit"},
            "meeting": [
                {
                    "name": "m",
                    "room": "m",
                    "sfu": {"url": "wss://sfu"},
                    "sink": [
                        {"kind": "null"},
                        {"kind": "png", "path": "/pictures/now.png"},
                        {"kind": "mkv", "path": "/films/{peer}/{stream}.mkv"},
                        {"kind": "mkv", "path": "/more/film-{peer}.mkv"},
                    ],
                }
            ],
        }
    )
    expected = ["/state", "/audit", "/pictures", "/films", "/more"]
    assert [str(each) for each in directories(settings)] == expected
    silent = settings.model_copy(update={"audit": settings.audit.model_copy(update={"enabled": False})})
    assert [str(each) for each in directories(silent)] == ["/state", *expected[2:]]
