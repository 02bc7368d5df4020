"""The daemon around its start: what comes too early waits, and what failed once is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.files import TEXT, write
from dongled.agent import custody as custody_module
from dongled.agent import daemon as module
from dongled.agent import wiring
from dongled.agent.daemon import Daemon
from dongled.agent.errors import AgentError
from dongled.agent.health.monitor import HealthMonitor
from dongled.agent.policy.api import Policy
from dongled.agent.terminal import Terminal
from dongled.config.api import Settings, load
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import OpenedToken
from dongled.tokens.quirks import Watch
from service.manager import manager


def plain(tmp_path: Path, *meetings: str) -> Settings:
    """Plain meetings on an SFU that is not there: no token is needed."""
    tables = [
        {"name": name, "room": name, "encryption": "plain", "sfu": {"url": "ws://127.0.0.1:1"}}
        for name in meetings
    ]
    places = {"control": {"socket": tmp_path / "control.sock"}, "state": {"directory": tmp_path}}
    return Settings.model_validate({"meeting": tables, **places})


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[None]:
    task = asyncio.create_task(daemon.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_hangup_that_comes_too_early_is_heeded_when_all_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = plain(tmp_path, "one"), plain(tmp_path, "one", "two")
    with manager(tmp_path) as systemd:
        for name, value in systemd.environment().items():
            monkeypatch.setenv(name, value)
        daemon = Daemon(before, None, load=lambda: after)
        daemon.hangup()
        await asyncio.sleep(0)
        async with running(daemon):
            # Behind the first, one after the other.
            async with asyncio.timeout(20):
                await daemon.reload()
            assert [meeting.name for meeting in daemon.status().meetings] == ["one", "two"]
            assert systemd.hear() == {"READY": "1"}


async def test_a_defect_in_reading_again_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(module, "make_plan", broken)
    settings = plain(tmp_path, "one")
    daemon = Daemon(settings, None, load=lambda: settings)
    async with running(daemon):
        with pytest.raises(ValueError, match="a defect"):
            await daemon.reload()
        await asyncio.sleep(0)
    assert "the configuration was not read again: a defect" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_defect_in_looking_after_health_costs_no_meeting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked: asyncio.Queue[None] = asyncio.Queue()

    def look(_: object) -> None:
        looked.put_nowait(None)
        raise ValueError("a defect")

    monkeypatch.setattr(HealthMonitor, "look", look)
    monkeypatch.setattr("dongled.agent.tasks.AGAIN_FIRST", 0.01)
    async with running(Daemon(plain(tmp_path, "one"), None)), asyncio.timeout(20):
        await looked.get()
        await looked.get()


class Token:
    """One that was opened, and is never missed."""

    watch, uri, identity = Watch.NOTHING, "pkcs11:serial=1", SimpleNamespace(point=b"point")

    @property
    def parts(self) -> dict[str, Token]:
        return {"identity": self}

    async def close(self) -> None: ...


async def test_renewal_begins_late_where_it_could_not_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    enrollers: list[object] = [AgentError("subject", "no"), SimpleNamespace()]
    openings: list[object] = [TokenError("token-absent", "no"), Token()]

    class Renewal:
        def __init__(self, *_: object) -> None: ...

        async def run(self) -> None:
            begun.set()
            await asyncio.Event().wait()

    def one_of(script: list[Any]) -> Any:
        came = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(came, Exception):
            raise came
        return came

    def opener(*_: object) -> Callable[[], Awaitable[OpenedToken]]:
        async def open_keys() -> OpenedToken:
            return cast(OpenedToken, one_of(openings))

        return open_keys

    async def forever() -> None:
        await asyncio.Event().wait()

    trust = SimpleNamespace(
        audit=None, authorizer=None, policy=None, clock=None, run=forever, on_learned=lambda _: None
    )
    for name in ("RETRY_FIRST", "RETRY_MOST"):
        monkeypatch.setattr(custody_module, name, 0.01)
    monkeypatch.setattr(module, "Renewal", Renewal)
    monkeypatch.setattr(wiring, "open_trust", lambda *_, **__: trust)
    monkeypatch.setattr(wiring, "key_opener", opener)
    monkeypatch.setattr(wiring, "open_enroller", lambda *_: one_of(enrollers))
    monkeypatch.setattr(
        wiring,
        "open_terminal",
        lambda _, keys, __: Terminal("urn:uuid:x", keys, [b"leaf"], [], cast(Policy, None)),
    )
    settings = load(write(tmp_path, TEXT.partition("[[stream]]")[0] + _MEETING), {}, {})
    settings = settings.model_copy(
        update={"control": plain(tmp_path).control, "state": plain(tmp_path).state}
    )
    async with running(Daemon(settings, None)), asyncio.timeout(20):
        await begun.wait()


_MEETING = """
[[meeting]]
name = "one"
room = "one"
sfu = { url = "ws://127.0.0.1:1" }
"""
