"""Checks of the terminal beside its token, each on real parts: once well, and once with the part broken."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dongled.agent.doctor.api import Check, Finding, Level
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks import clock, disk, encoder, ice, sfu
from dongled.agent.health import rules
from dongled.agent.sfu.janus import textroom
from dongled.agent.status import TimeStatus
from dongled.config.api import Settings
from support.controlled import ControlledDouble
from support.janus import JanusServer

MEETING = {"name": "lobby", "room": "lobby", "sfu": {"url": "ws://127.0.0.1:1"}}
STREAM = {"id": "camera", "source": "testsrc", "width": 320, "height": 180}


def case(tmp_path: Path, **settings: Any) -> TerminalCase:
    tables = {
        "state": {"directory": tmp_path / "state"},
        "meeting": [MEETING],
        "stream": [STREAM],
        **settings,
    }
    return TerminalCase(Settings.model_validate(tables))


async def found(check: Check[TerminalCase], at: TerminalCase) -> Finding:
    (finding,) = await check.look(at)
    return finding


async def test_a_time_that_nobody_vouches_for_is_fatal(tmp_path: Path) -> None:
    untrusted = await found(clock.CHECK, case(tmp_path))
    assert (untrusted.level, "time-source" in untrusted.hint) == (Level.FATAL, True)
    trusted = await found(clock.CHECK, case(tmp_path, trust={"time_source": "system"}))
    assert trusted.level is Level.OK
    plain = case(tmp_path, meeting=[{**MEETING, "encryption": "plain"}])
    assert (await found(clock.CHECK, plain)).level is Level.SKIPPED


@pytest.mark.parametrize("trusted", [None, False, True])
async def test_whether_an_operator_vouched_the_running_daemon_knows(
    tmp_path: Path, trusted: bool | None
) -> None:
    settings = case(tmp_path, trust={"time_source": "operator"}).settings
    daemon = None
    if trusted is not None:
        daemon = ControlledDouble().status()
        daemon.time = TimeStatus("operator", trusted, "" if trusted else "time-untrusted", "nobody vouches")
    seen = await found(clock.CHECK, TerminalCase(settings, daemon=daemon))
    assert seen.level is {None: Level.WARNING, False: Level.FATAL, True: Level.OK}[trusted]
    assert ("confirm-time" in seen.hint) is (trusted is not True)


async def test_why_chrony_does_not_vouch_and_what_to_do(tmp_path: Path) -> None:
    settings = case(tmp_path, trust={"time_source": "nts"}).settings
    # There is no such socket where tests run.
    alone = await found(clock.CHECK, TerminalCase(settings))
    assert (alone.level, "dongled-time.socket" in alone.hint) == (Level.FATAL, True)
    daemon = ControlledDouble().status()
    daemon.time = TimeStatus("nts", False, "time-nts-unauthenticated", "it takes the time from anybody")
    seen = await found(clock.CHECK, TerminalCase(settings, daemon=daemon))
    assert (seen.level, "chronyc -n authdata" in seen.hint) == (Level.FATAL, True)
    assert "[time-nts-unauthenticated]" in seen.text


async def test_a_key_frame_of_every_stream(tmp_path: Path) -> None:
    encoded = await found(encoder.CHECK, case(tmp_path))
    assert (encoded.level, encoded.about) == (Level.OK, "camera")
    assert "320x180" in encoded.text
    assert (await found(encoder.CHECK, case(tmp_path, stream=[]))).level is Level.SKIPPED


async def test_a_janus_that_answers_has_the_room_and_is_reached_by_ice(tmp_path: Path) -> None:
    with JanusServer(tmp_path / "janus") as server:
        there = case(tmp_path, meeting=[{**MEETING, "create": True, "sfu": {"url": server.url}}])
        answered = await found(sfu.CHECK, there)
        text = "it answers, has videoroom and textroom, and the room will be made"
        assert (answered.level, answered.text) == (Level.OK, text)
        assert (await found(ice.CHECK, there)).level is Level.OK
        # Neither check has made the room, or entered it.
        missing = await found(sfu.CHECK, case(tmp_path, meeting=[{**MEETING, "sfu": {"url": server.url}}]))
        assert missing.level is Level.FAILED
        assert "[no-such-room]" in missing.text
        assert "create" in missing.hint
    for check in (sfu.CHECK, ice.CHECK):
        gone = await found(check, there)
        assert (gone.level, gone.about) == (Level.FAILED, "lobby")
        assert "[sfu-unreachable]" in gone.text


async def test_a_janus_whose_pictures_a_firewall_keeps_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textroom, "LINK_WITHIN", 0.5)
    with JanusServer(tmp_path / "janus") as server:
        there = case(tmp_path, meeting=[{**MEETING, "create": True, "sfu": {"url": server.url}}])
        nft("add", "table", "inet", "wall")
        try:
            nft("add chain inet wall output { type filter hook output priority 0 ; }")
            nft("add", "rule", "inet", "wall", "output", "meta", "l4proto", "udp", "drop")
            assert (await found(sfu.CHECK, there)).level is Level.OK
            shut = await found(ice.CHECK, there)
        finally:
            nft("delete", "table", "inet", "wall")
    assert (shut.level, shut.about) == (Level.FAILED, "lobby")
    assert "[bus-unreachable]" in shut.text
    assert "UDP" in shut.hint


def nft(*words: str) -> None:
    subprocess.run(["nft", *words], check=True, capture_output=True)


async def test_a_server_that_is_no_janus(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.listen()
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        looking = asyncio.ensure_future(
            found(sfu.CHECK, case(tmp_path, meeting=[{**MEETING, "sfu": {"url": url}}]))
        )
        connection, _ = await asyncio.to_thread(listening.accept)
        connection.close()
        assert (await looking).level is Level.FAILED


async def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = case(tmp_path)
    assert (await found(disk.CHECK, here)).level is Level.OK
    monkeypatch.setattr(rules, "DISK_LEAST", 1 << 60)
    low = await found(disk.CHECK, here)
    assert low.level is Level.WARNING
    assert "make room" in low.hint
