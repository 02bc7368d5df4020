"""Cameras' formats and files' pictures, as a terminal's examination sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from capture.test_file import make
from dongled.agent.doctor.api import Finding, Level
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks import sources
from dongled.agent.status import DaemonStatus
from dongled.capture.formats import Format
from dongled.config.api import Settings
from support.statuses import well

FILM = {"id": "film", "source": "file"}
CAMERA = {"id": "camera", "source": "camera", "device": "/dev/video7"}


async def found(stream: Mapping[str, Any], daemon: DaemonStatus | None = None) -> Finding:
    settings = Settings.model_validate({"stream": [{"width": 320, "height": 180, **stream}]})
    (finding,) = await sources.CHECK.look(TerminalCase(settings, daemon=daemon))
    assert finding.about == stream["id"]
    return finding


@pytest.mark.parametrize(
    ("offered", "level", "told"),
    [
        ([Format("YUYV", ((320, 180),)), Format("H264", ())], Level.OK, "offers YUYV, in 320x180 too"),
        ([Format("MJPG", ((640, 480), (1280, 720)))], Level.OK, "scaled from: 640x480, 1280x720"),
        ([Format("H264", ((320, 180),)), Format("BGR3", ())], Level.FAILED, "offers H264, BGR3"),
        ([], Level.FAILED, "offers nothing"),
    ],
)
async def test_a_camera_by_what_it_offers(
    offered: list[Format], level: Level, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "formats", lambda device: offered)
    finding = await found(CAMERA)
    assert (finding.level, told in finding.text) == (level, True), finding


async def test_a_camera_that_is_not_there() -> None:
    finding = await found(CAMERA)
    assert finding.level is Level.FAILED
    assert "[camera-absent]" in finding.text


async def test_a_file_that_plays_and_one_that_does_not(tmp_path: Path) -> None:
    film = make(tmp_path / "film.mkv", pictures=3)
    assert (await found({**FILM, "path": film})).level is Level.OK
    (tmp_path / "text.mkv").write_text("no film")
    assert (await found({**FILM, "path": tmp_path / "text.mkv"})).level is Level.FAILED


async def test_what_the_daemon_has_open_is_its_own() -> None:
    status = well()
    assert (await found(CAMERA, status)).level is Level.OK
    status.meetings[0].sending[0].absent = "it was unplugged [camera-gone]"
    finding = await found(CAMERA, status)
    assert (finding.level, "[camera-gone]" in finding.text) == (Level.FAILED, True)
