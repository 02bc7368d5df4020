"""Figures that come, do not come, or are another program's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from dongled.agent.doctor.api import Level
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks.metrics import CHECK
from dongled.agent.metrics.figures import registry_of
from dongled.agent.metrics.server import MetricsServer
from dongled.config.api import Settings
from support.ports import two_free_ports
from support.statuses import well


def case(listen: str | None, *, runs: bool = True) -> TerminalCase:
    settings = Settings.model_validate({"metrics": {"listen": listen}})
    return TerminalCase(settings, daemon=well() if runs else None)


async def level(at: TerminalCase) -> Level:
    (finding,) = await CHECK.look(at)
    return finding.level


@pytest.mark.parametrize("unix", [True, False])
async def test_the_daemon_answers_then_nobody(unix: bool, tmp_path: Path) -> None:
    listen = str(tmp_path / "metrics.sock") if unix else f"127.0.0.1:{two_free_ports()}"
    registry = registry_of(well)
    server = MetricsServer(listen, lambda: generate_latest(registry))
    await server.start()
    assert await level(case(listen)) is Level.OK
    await server.close()
    assert await level(case(listen)) is Level.FAILED


async def test_another_program_is_there(tmp_path: Path) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n<html>")
        writer.close()

    listen = str(tmp_path / "other.sock")
    async with await asyncio.start_unix_server(other, listen):
        assert await level(case(listen)) is Level.FAILED


async def test_nobody_is_to_have_them() -> None:
    assert await level(case(None)) is Level.SKIPPED
    assert await level(TerminalCase(None)) is Level.SKIPPED
