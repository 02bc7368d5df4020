"""A meeting as its users have it: processes, tokens, Janus, and what goes wrong between them."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM, start, stop
from integration.conftest import Company, Launch
from integration.running import (
    BUSY,
    PATIENCE,
    alive,
    command_line_of,
    environment_of,
    opened,
    sending,
)

pytestmark = pytest.mark.timeout(300)

# What the protocol promises, times three (docs/protocol.md, Timers).
BLIND_WITHIN = 3 * 2.0
MEMORY_LIMIT = 220 * 1024 * 1024


def test_the_viewer_sees_within_three_seconds_and_nothing_fails(launch: Launch) -> None:
    launch("camera").until(lambda meeting: meeting.state == "joined")
    meeting = launch("viewer").until(lambda meeting: opened(meeting) > 60)
    came = meeting.receiving[0]
    assert came.first_frame_ms is not None
    assert came.first_frame_ms < 3 * 3000
    assert not any(came.frames_failed.values())
    assert not meeting.refused.keys() - BUSY


@pytest.mark.property("P6")
def test_a_viewer_that_was_killed_is_locked_out(launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    first = sending(camera.status().meetings[0]).generation
    assert first is not None
    viewer.kill()
    killed = time.monotonic()
    # Nobody is left who may watch, so nothing is sealed any more.
    camera.until(lambda meeting: not meeting.peers and sending(meeting).generation is None)
    assert time.monotonic() - killed < BLIND_WITHIN
    again = launch("viewer", "again")
    again.until(lambda meeting: opened(meeting) > 0)
    second = sending(camera.status().meetings[0]).generation
    assert second is not None
    assert second > first


@pytest.mark.fault("worker killed in mid-meeting")
def test_the_meeting_goes_on_when_the_tokens_worker_is_killed(launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    before = camera.status()
    (worker,) = camera.children()
    os.kill(worker, signal.SIGKILL)
    # The next beacon needs the token again.
    camera.until(lambda _: camera.status().token.sign > before.token.sign + 1)
    assert camera.children() != [worker]
    after = camera.status().meetings[0]
    assert after.session == before.meetings[0].session
    seen = opened(viewer.status().meetings[0])
    viewer.until(lambda meeting: opened(meeting) > seen + 30)


def test_a_wrong_pin_ends_the_daemon_with_one_error(company: Company, tmp_path: Path, launch: Launch) -> None:
    wrong = tmp_path / "wrong-pin"
    wrong.touch(mode=0o600)
    wrong.write_text(secrets.token_hex(8))
    camera = launch("camera", changes={str(company.camera.folder / "pin"): str(wrong)})
    assert camera.process.wait(PATIENCE) == 78
    assert camera.log.count("error:") == 1
    assert "[pin-wrong]" in camera.log
    assert "hint:" in camera.log


def test_the_daemon_stays_below_its_memory_limit(launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 150)
    assert camera.memory() < MEMORY_LIMIT


@pytest.mark.property("P13")
def test_stopping_tells_the_others_and_leaves_nothing(launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    children = camera.children()
    assert camera.stop() == 0
    viewer.until(lambda meeting: not meeting.peers)
    assert any(event.startswith("left (leave)") for event in viewer.status().meetings[0].events)
    assert not any(alive(child) for child in children)
    assert not (camera.folder / "control.sock").exists()


def test_an_identity_is_used_once(launch: Launch) -> None:
    launch("camera").until(lambda meeting: meeting.state == "joined")
    second = launch("camera", "second")
    assert second.process.wait(PATIENCE) == 1
    assert "[identity-held]" in second.log


def test_a_view_ends_when_its_player_is_closed(company: Company, launch: Launch, tmp_path: Path) -> None:
    launch("camera").until(lambda meeting: meeting.state == "joined")
    # Only for its configuration, which lies in the same folder as ever.
    configured = launch("viewer")
    configured.stop()
    view = start(
        *("view", "--config", configured.folder / "dongled.toml", "--output", "-"),
        env=company.viewer.env,
        log=tmp_path / "log",
        pipe=True,
    )
    assert view.stdout is not None
    try:
        # EBML, RFC 8794, section 11.2.1: what Matroska begins with.
        assert view.stdout.read(4) == b"\x1a\x45\xdf\xa3"
        view.stdout.close()
        assert view.wait(PATIENCE) == 0
    finally:
        stop(view)


@pytest.mark.property("P2")
def test_no_pin_where_others_can_read(company: Company, launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    pin = (company.camera.folder / "pin").read_bytes()
    for pid in (camera.process.pid, *camera.children()):
        assert pin not in command_line_of(pid)
        assert pin not in environment_of(pid)
    assert pin.decode() not in camera.log


def test_without_a_configuration_run_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "run", "--config", tmp_path / "none.toml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert "dongled config init" in done.stderr
