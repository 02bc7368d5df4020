"""What is recorded, how often, and what happens where it cannot be."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.policy.authorizer.questions import question
from dongled.agent.audit import log, trail
from dongled.agent.audit.chain import segments, verify_directory
from dongled.agent.audit.file import AuditFile
from dongled.agent.audit.log import BUDGET, WAITING, AuditLog
from dongled.agent.cli.audit import command
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyUndecided
from dongled.agent.protocol.api import Alarm, Expelled, Judged, Peer, StopSealing, TurnedAway

PEER = Peer(b"s" * 16, "urn:uuid:x", "CN=nurse", b"l" * 32, frozenset({"viewer"}), "hardware", ())


class Desk:
    """A log, and what is in it."""

    def __init__(self, directory: Path, *, required: bool = False) -> None:
        self.directory, self.time, self.learned = directory, 1000.0, asyncio.Event()
        self.log = AuditLog(
            directory,
            most=1 << 20,
            keep=4,
            required=required,
            trusted=lambda: True,
            wall=lambda: datetime(2027, 3, 1, tzinfo=UTC),
            steady=lambda: self.time,
        )
        self.log.on_learned(self.learned.set)

    def records(self) -> list[dict[str, Any]]:
        self.log._write()
        return [
            json.loads(line) for path in segments(self.directory) for line in path.read_bytes().splitlines()
        ]

    def refuses(self) -> bool:
        try:
            self.log.require()
        except PolicyUndecided:
            return True
        return False

    async def until(self, *, refuses: bool) -> None:
        while self.refuses() is not refuses:
            await self.learned.wait()
            self.learned.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.log.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_each_kind_of_record(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for effect in (
        Judged("granted", PEER, ("camera",), "", "on the list of viewers"),
        Judged("refused", PEER, ("camera",), "operator-denied", "root denied it"),
        TurnedAway("urn:uuid:y", "somebody", "revoked", "since yesterday"),
        Expelled("urn:uuid:x", "urn:uuid:m", "noise"),
        Alarm("roster-split", "two rooms"),
        StopSealing("camera"),
    ):
        trail.note(desk.log, "ward", effect)
    trail.decided(desk.log, "approved", question(), "root", 60.4)
    records = desk.records()
    assert [record["event"] for record in records] == [
        "granted", "refused", "turned-away", "expelled", "alarm", "approved",
    ]  # fmt: skip
    granted, refused, turned, *_, approved = records
    assert {key: granted[key] for key in granted if key not in ("n", "prev")} == {
        "time": "2027-03-01T00:00:00.000+00:00",
        "clock": "trusted",
        "event": "granted",
        "meeting": "ward",
        "terminal": "urn:uuid:x",
        "subject": "CN=nurse",
        "roles": ["viewer"],
        "assurance": "hardware",
        "certificate": (b"l" * 32).hex(),
        "session": (b"s" * 16).hex(),
        "streams": ["camera"],
        "reason": "",
        "why": "on the list of viewers",
    }
    assert (refused["reason"], turned["claims"]) == ("operator-denied", "urn:uuid:y")
    assert (approved["by"], approved["seconds"], approved["request"]) == ("root", 60, question().id)


@pytest.mark.property("P14")
async def test_a_flood_is_counted_and_costs_nobody_else_a_record(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for number in range(500):
        trail.note(desk.log, "ward", TurnedAway(f"urn:uuid:{number}", "x", "revoked", "y" * 9000))
        trail.note(desk.log, "ward", TurnedAway("urn:uuid:0", "x", "revoked", "y" * 9000))
    trail.note(desk.log, "ward", Judged("granted", PEER, ("camera",), "", ""))
    records = desk.records()
    assert len(records) == BUDGET + 1
    assert sum(record.get("omitted", 0) for record in records) == 1000 - BUDGET
    assert max(len(json.dumps(record)) for record in records) < 2000
    desk.time += 61
    trail.note(desk.log, "ward", TurnedAway("urn:uuid:0", "x", "revoked", ""))
    assert len(desk.records()) == BUDGET + 2


async def test_what_cannot_be_written_waits_and_where_it_is_required_nothing_is_granted(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").write_text("in the way")
    desk, lenient = Desk(tmp_path / "state", required=True), Desk(tmp_path / "state")
    lenient.log.start()
    lenient.log.require()
    with pytest.raises(AgentError, match="cannot be written"):
        desk.log.start()
    with pytest.raises(PolicyUndecided) as caught:
        desk.log.require()
    assert caught.value.reason == "audit-failed"
    for number in range(WAITING + 7):
        desk.log.record("granted", of=number)
    (tmp_path / "state").unlink()
    async with desk.running():
        async with asyncio.timeout(20):
            await desk.learned.wait()
        desk.log.require()
    desk.log.record("granted", of="last")
    assert desk.records()[-1]["omitted"] == 7
    assert verify_directory(tmp_path / "state").head.number == WAITING + 1


async def test_what_was_said_last_is_written_when_the_daemon_stops(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    async with desk.running():
        await asyncio.sleep(0)
        desk.log.record("stopped")
    assert verify_directory(tmp_path).head.number == 1


@pytest.mark.property("P14")
async def test_a_record_that_cannot_be_written_is_named_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RETRY", 0.01)
    desk = Desk(tmp_path, required=True)
    desk.log.record("granted", of=object())
    desk.log.record("granted", of=2)
    refused: asyncio.Queue[bool] = asyncio.Queue()
    desk.log.on_learned(lambda: refused.put_nowait(desk.refuses()))
    async with desk.running(), asyncio.timeout(20):
        assert await refused.get()
        assert not await refused.get()
    first, second = desk.records()
    assert (first["event"], first["lost"], second["of"]) == ("granted", "TypeError", 2)
    assert verify_directory(tmp_path).head.number == 2


async def test_a_defect_of_the_log_itself_takes_no_record_and_nothing_is_granted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RETRY", 0.01)
    desk = Desk(tmp_path, required=True)
    desk.log.record("granted", of=1)

    def defect(*_: object) -> None:
        raise LookupError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(AuditFile, "append", defect)
        async with desk.running(), asyncio.timeout(20):
            await desk.learned.wait()
            assert desk.refuses()
    assert [record["of"] for record in desk.records()] == [1]
    assert not desk.refuses()


@pytest.mark.parametrize("hangs_before", [False, True])
async def test_a_disk_that_hangs_does_not_hold_up_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs_before: bool
) -> None:
    monkeypatch.setattr(log, "PATIENCE", 0.05)
    desk = Desk(tmp_path)
    hanging, released, written = threading.Event(), threading.Event(), threading.Event()
    append = AuditFile.append

    def hang(file: AuditFile, fields: dict[str, Any]) -> None:
        hanging.set()
        released.wait(20)
        append(file, fields)
        written.set()

    monkeypatch.setattr(AuditFile, "append", hang)
    try:
        async with desk.running():
            await asyncio.sleep(0)
            desk.log.record("stopped")
            if hangs_before:
                await asyncio.to_thread(hanging.wait, 20)
        assert not written.is_set()
    finally:
        released.set()
    assert await asyncio.to_thread(written.wait, 20)


async def test_while_a_disk_hangs_nothing_is_granted_where_it_has_to_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PATIENCE", 0.05)
    desk = Desk(tmp_path, required=True)
    released = threading.Event()
    append = AuditFile.append

    def hang(file: AuditFile, fields: dict[str, Any]) -> None:
        released.wait(20)
        append(file, fields)

    monkeypatch.setattr(AuditFile, "append", hang)
    try:
        async with desk.running():
            desk.log.record("granted")
            async with asyncio.timeout(30):
                await desk.until(refuses=True)
                released.set()
                await desk.until(refuses=False)
    finally:
        released.set()


def config(folder: Path) -> list[str]:
    path = folder / "dongled.toml"
    path.write_text(f'[state]\ndirectory = "{folder / "state"}"\n')
    return ["--config", str(path)]


async def test_the_command_shows_and_verifies(tmp_path: Path) -> None:
    where, run = config(tmp_path), CliRunner().invoke
    assert run(command, ["verify", *where]).output == "nothing is recorded\n"
    desk = Desk(tmp_path / "state")
    trail.note(desk.log, "ward", Judged("granted", PEER, ("camera",), "", "on the list\x1b[2J"))
    desk.records()
    shown = run(command, ["show", *where]).output
    assert (
        "granted  meeting=ward  terminal=urn:uuid:x  subject=CN=nurse  roles=viewer  assurance=hardware"
        in shown
    )
    assert "\x1b" not in shown
    assert json.loads(run(command, ["show", "--json", *where]).output)["event"] == "granted"
    done = run(command, ["verify", *where])
    assert done.output.startswith("records 1 to 1, unbroken\n")
    known = done.output.split()[-1]
    (path,) = segments(tmp_path / "state")
    assert run(command, ["verify", str(path), "--known", known]).exit_code == 0
    unknown = run(command, ["verify", str(path), "--known", "00" * 32])
    assert unknown.exit_code != 0
    path.write_bytes(path.read_bytes().replace(b"nurse", b"thief"))
    tampered = run(command, ["verify", *where])
    assert tampered.exit_code != 0
    assert "audit-chain" in tampered.output
