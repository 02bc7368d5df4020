"""The configuration changes in mid-meeting: what is as before goes on, and what is wrong changes nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM
from dongled.agent.doctor.api import Level
from dongled.agent.doctor.show import EXIT_STATUS
from dongled.agent.status import MeetingStatus
from integration.conftest import Company, Launch
from integration.running import Running, opened, sending, watching

pytestmark = pytest.mark.timeout(300)

SECOND = """
[[stream]]
id = "thermal"
source = "testsrc"
width = 160
height = 120
fps = 5

[[meeting]]
name = "second"
room = "{room}-second"
create = true
publish = ["thermal"]
sfu.url = "{url}"
"""


def reload(of: Running) -> subprocess.CompletedProcess[str]:
    return ask(of, "reload")


def ask(of: Running, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *command, "--config", of.folder / "dongled.toml"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def states(of: Running) -> dict[str, str]:
    return {meeting.name: meeting.state for meeting in of.status().meetings}


def until_states(of: Running, wanted: dict[str, str]) -> None:
    of.until(lambda _: states(of) == wanted)


def in_step(meeting: MeetingStatus) -> bool:
    came = watching(meeting)
    return came is not None and came.frames_received - came.frames_opened <= 1


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_meeting_comes_and_goes_and_another_goes_on(launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    seen = viewer.until(lambda meeting: opened(meeting) > 10)
    mine = camera.status().meetings[0].session
    config = camera.folder / "dongled.toml"
    url = next(line for line in config.read_text().splitlines() if line.startswith("url = ")).split('"')[1]
    drop_in = camera.folder / "conf.d" / "second.toml"
    drop_in.parent.mkdir()

    drop_in.write_text(SECOND.format(room=camera.room, url=url))
    done = reload(camera)
    assert (done.returncode, done.stdout) == (0, "kept   demo\nbegun  second\n"), done.stderr
    until_states(camera, {"demo": "joined", "second": "joined"})

    drop_in.write_text(SECOND.format(room=camera.room, url=url).replace("fps = 5", "fps = 500"))
    wrong = reload(camera)
    assert wrong.returncode == 78
    assert f"{drop_in}: stream.1.fps ([[stream]] thermal): " in wrong.stderr
    status = camera.status()
    assert str(drop_in) in status.reload_refused
    assert str(drop_in) in camera.log
    # Warnings are looked for every two seconds.
    camera.until(lambda _: "reload-refused" in {each.id for each in camera.status().warnings})
    # It tells all of it also to who finds it by the configuration that is wrong.
    shown = ask(camera, "status")
    assert (shown.returncode, "reload-refused" in shown.stdout) == (0, True), shown.stderr
    examined = ask(camera, "doctor", "--check", "config", "--check", "daemon")
    assert examined.returncode == EXIT_STATUS[Level.FATAL]
    assert f"fatal    config: {drop_in}: stream.1.fps" in examined.stdout
    assert "[reload-refused]" in examined.stdout
    assert states(camera) == {"demo": "joined", "second": "joined"}

    drop_in.unlink()
    change(config, 'pin-file = "', 'on-removal = "mute"\npin-file = "')
    done = reload(camera)
    assert (done.returncode, done.stdout) == (0, "kept   demo\nended  second\n"), done.stderr
    assert "before a restart: token.on-removal" in done.stderr
    status = camera.status()
    assert (states(camera), status.reload_refused) == ({"demo": "joined"}, "")
    assert status.restart == ["token.on-removal"]

    # Through all of it: the same sessions at both ends, no frame lost on the way, and the picture moves.
    assert camera.status().meetings[0].session == mine
    more = opened(seen) + 10
    # A frame that came is opened a little later.
    came = watching(viewer.until(lambda meeting: opened(meeting) > more and in_step(meeting)))
    assert came is not None
    assert (came.session, came.frames_failed) == (mine, {})


def test_trust_changes_at_once_and_by_a_signal(company: Company, launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    mine = camera.status().meetings[0].session
    config = camera.folder / "dongled.toml"

    change(config, f'allow-viewers = ["{company.viewer.urn}"]', "allow-viewers = []")
    camera.process.send_signal(signal.SIGHUP)
    camera.until(lambda meeting: sending(meeting).generation is None)
    assert camera.status().meetings[0].session == mine


def test_a_changed_stream_is_published_in_a_new_session_of_its_meeting(launch: Launch) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)
    mine = camera.status().meetings[0].session
    change(camera.folder / "dongled.toml", "fps = 30", "fps = 15")
    began = time.monotonic()
    done = reload(camera)
    assert (done.returncode, done.stdout) == (0, "begun  demo\n"), done.stderr
    viewer.until(
        lambda meeting: any(each.session != mine and each.frames_opened for each in meeting.receiving)
    )
    assert time.monotonic() - began < 30
