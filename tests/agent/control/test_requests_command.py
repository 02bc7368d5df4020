"""``dongled requests``, ``approve`` and ``deny`` against a served control socket."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dongled.agent.cli.durations import shown
from dongled.agent.cli.main import main
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from support.controlled import ControlledDouble


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "control.sock"
    server = ControlServer(path, ControlInterface(ControlledDouble()))
    await server.start()
    yield path
    await server.close()


async def run(control: Path, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--socket", str(control)])


async def test_who_waits_is_shown_with_role_and_assurance(control: Path) -> None:
    done = await run(control, "requests")
    terminal = "urn:uuid:00000000-0000-4000-8000-000000000001"
    assert done.output.splitlines() == [
        "abcd  waits for 1 m",
        f"  viewer  viewer  hardware  {terminal}  certificate {'ab' * 8}",
        "  asks for camera in demo",
    ]
    (request,) = json.loads((await run(control, "requests", "--json")).output)
    assert (request["id"], request["state"], request["left"]) == ("abcd", "pending", None)


async def test_the_user_s_word_is_taken_with_the_user_s_name(control: Path) -> None:
    done = await run(control, "approve", "abcd", "--for", "2h")
    assert done.output.startswith(f"abcd  approved by {getpass.getuser()}, 2 h left\n")
    done = await run(control, "deny", "abcd")
    assert done.output.startswith(f"abcd  denied by {getpass.getuser()}, 0 s left\n")
    nobody = await run(control, "approve", "nobody")
    assert nobody.exit_code != 0
    assert "no-such-request" in nobody.output


async def test_the_user_s_word_about_the_time(control: Path) -> None:
    done = await run(control, "confirm-time", "2027-03-01T12:34Z")
    assert done.output == "the time is believed: 2027-03-01T12:34Z\n"
    refused = await run(control, "confirm-time", "noon")
    assert refused.exit_code != 0
    assert "[time-format]" in refused.output


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "0s", "31d", "1.5h", "1h30m", "99999999s"])
async def test_what_is_no_duration(control: Path, text: str) -> None:
    done = await run(control, "approve", "abcd", "--for", text)
    assert done.exit_code == 2


def test_durations_as_people_read_them() -> None:
    assert [shown(n) for n in (0, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 m", "2 h", "2 d"]
