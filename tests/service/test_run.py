"""``dongled run`` as a unit of type notify, from its start to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dongled.agent.cli.errors import reporting_errors
from dongled.tokens.errors import TokenError
from service.manager import Manager, manager
from service.units import settings

PROGRAM = Path(sys.executable).with_name("dongled")
# Nobody listens on port 1: the SFU is out of reach for good.
SETTINGS = """
[control]
socket = "control.sock"
[[stream]]
id = "camera"
source = "testsrc"
[[meeting]]
name = "lobby"
room = "lobby"
encryption = "plain"
publish = ["camera"]
[meeting.sfu]
url = "ws://127.0.0.1:1"
"""


@contextmanager
def running(folder: Path, systemd: Manager, watchdog: float) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "dongled.toml").write_text(SETTINGS)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "run", "--config", folder / "dongled.toml"],
            env=os.environ | systemd.environment(watchdog),
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_is_ready_when_it_can_be_asked_and_lives_without_a_network(tmp_path: Path) -> None:
    with manager(tmp_path) as systemd, running(tmp_path, systemd, watchdog=2.0) as process:
        assert systemd.hear() == {"READY": "1"}
        asked = subprocess.run(
            [PROGRAM, "status", "--json", "--config", tmp_path / "dongled.toml"],
            capture_output=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        for _ in range(8):  # twice the watchdog's time
            told = systemd.until("WATCHDOG")
        assert told["STATUS"].startswith("lobby: ")
        process.send_signal(signal.SIGTERM)
        assert systemd.until("STOPPING") == {"STOPPING": "1"}
        assert process.wait(20) == 0


def test_the_watchdogs_signal_says_where_it_hung(tmp_path: Path) -> None:
    with manager(tmp_path) as systemd, running(tmp_path, systemd, watchdog=2.0) as process:
        systemd.until("READY")
        process.send_signal(signal.SIGABRT)
        assert process.wait(20) == -signal.SIGABRT
        log = (tmp_path / "log").read_text()
        assert "Fatal Python error: Aborted" in log
        assert "run_until_stopped" in log


def test_a_configuration_that_is_wrong_ends_it_for_good(tmp_path: Path) -> None:
    (tmp_path / "dongled.toml").write_text("[terminal]\nnam = 'x'\n")
    done = subprocess.run(
        [PROGRAM, "run", "--config", tmp_path / "dongled.toml"], capture_output=True, check=False
    )
    assert done.returncode == 78


@pytest.mark.parametrize(
    "reason", ["pin-wrong", "pin-refused-before", "pin-in-doubt", "pin-final-try", "pin-locked"]
)
def test_a_refused_pin_is_not_tried_by_starting_again(reason: str) -> None:
    """What remembers refused PINs is the process: three restarts would lock a card."""
    with pytest.raises(SystemExit) as ended, reporting_errors():
        raise TokenError(reason, "no", "put the right one in place")
    assert ended.value.code == int(settings("dongled.service")["RestartPreventExitStatus"][0])


def test_what_passes_by_itself_is_tried_by_starting_again() -> None:
    with pytest.raises(SystemExit) as ended, reporting_errors():
        raise TokenError("token-absent", "no token", "insert it")
    assert ended.value.code == 1
