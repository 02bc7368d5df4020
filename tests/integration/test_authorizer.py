"""Who decides in a real meeting: the operator, or the example program over a Unix socket and over HTTPS."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM
from integration.conftest import Company, Launch
from integration.running import Running, opened, sending
from support.authorizer import example, tls_files

pytestmark = [pytest.mark.timeout(300), pytest.mark.property("P3")]

# docs/protocol.md, P6: two seconds; times three.
BLIND_WITHIN = 3 * 2.0


def decided_by(company: Company, table: str) -> dict[str, str]:
    """Changes to the camera's configuration: somebody decides in place of the list."""
    return {
        f'allow-viewers = ["{company.viewer.urn}"]\n': "",
        "[state]": f"[authorizer]\n{table}\n\n[state]",
    }


def run(*command: str) -> str:
    done = subprocess.run([PROGRAM, *command], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def told(of: Running, *command: str) -> str:
    return run(*command, "--socket", str(of.folder / "control.sock"))


def time_of(running: Running) -> tuple[bool, str]:
    time = running.status().time
    assert time is not None
    return time.trusted, time.reason


def blind(camera: Running, viewer: Running, since: float) -> None:
    sealed = sending(camera.until(lambda meeting: sending(meeting).generation is None)).frames_sealed
    assert time.monotonic() - since < BLIND_WITHIN
    meeting = camera.until(lambda meeting: any("withdrawn" in event for event in meeting.events))
    assert sending(meeting).frames_sealed == sealed
    assert opened(viewer.status().meetings[0]) <= sealed


def test_the_operator_lets_in_and_puts_out(company: Company, launch: Launch) -> None:
    by_operator = {'time-source = "system"': 'time-source = "operator"'}
    camera = launch("camera", changes={**decided_by(company, 'kind = "operator"'), **by_operator})
    camera.until(lambda meeting: meeting.state == "joined")
    assert time_of(camera) == (False, "time-untrusted")
    assert "the time is believed" in told(camera, "confirm-time", datetime.now(UTC).isoformat())
    assert time_of(camera) == (True, "")
    assert told(camera, "requests") == "nobody asks\n"
    viewer = launch("viewer")
    camera.until(lambda meeting: meeting.refused.get("operator-pending"))
    (asked,) = json.loads(told(camera, "requests", "--json"))
    assert (asked["terminal"], asked["streams"], asked["state"]) == (
        company.viewer.urn,
        ["camera"],
        "pending",
    )
    viewer.until(lambda meeting: meeting.refused.get("pending"))
    assert opened(viewer.status().meetings[0]) == 0

    # For a while only: it sees, and is blind by itself.
    assert "approved by" in told(camera, "approve", asked["id"], "--for", "10s")
    viewer.until(opened)
    events = camera.status().meetings[0].events
    granted = next(event for event in events if event.startswith("granted: camera to "))
    assert "; viewer; software); approved by" in granted
    camera.until(lambda meeting: sending(meeting).generation is None)
    assert "waits" in told(camera, "requests")

    seen = opened(viewer.status().meetings[0])
    told(camera, "approve", company.viewer.urn, "--for", "1h")
    viewer.until(lambda meeting: opened(meeting) > seen + 30)
    since = time.monotonic()
    assert "denied by" in told(camera, "deny", company.viewer.urn)
    blind(camera, viewer, since)

    camera.stop()
    config = ["--config", str(camera.folder / "dongled.toml")]
    assert "unbroken" in run("audit", "verify", *config)
    records = [json.loads(line) for line in run("audit", "show", "--json", *config).splitlines()]
    told_of = [record["event"] for record in records if record.get("terminal") == company.viewer.urn]
    assert [event for event in told_of if event != "held"] == [
        "approved", "granted", "withdrawn", "approved", "granted", "denied", "withdrawn",
    ]  # fmt: skip
    assert [record["event"] for record in records][:2] == ["started", "time-confirmed"]
    assert (records[1]["clock"], records[-1]["event"]) == ("trusted", "stopped")
    by = {record["by"] for record in records if record["event"] in ("approved", "denied")}
    assert len(by) == 1
    assert any(f"approved by {by.copy().pop()}" in record.get("why", "") for record in records)


@pytest.mark.parametrize("how", ["socket", "https"])
def test_the_example_program_lets_in_and_puts_out(
    company: Company, launch: Launch, tmp_path: Path, how: str
) -> None:
    allow = tmp_path / "allowed.json"
    allow.write_text(json.dumps({company.viewer.urn: ["camera"]}))
    tls_files(tmp_path)
    socket = tmp_path / "authorizer.sock"
    listen: list[str | Path] = [
        "--listen",
        "127.0.0.1:0",
        "--certificate",
        tmp_path / "server.pem",
        "--key",
        tmp_path / "server.key",
    ]
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(example(allow, *(["--socket", socket] if how == "socket" else listen)))
        place = (
            f'socket = "{socket}"' if how == "socket" else f'url = "{at}"\nca-file = "{tmp_path / "ca.pem"}"'
        )
        table = f'kind = "program"\nrefresh = 5\nremember = 10\n{place}'
        camera, viewer = launch("camera", changes=decided_by(company, table)), launch("viewer")
        viewer.until(lambda meeting: opened(meeting) > 30)
        events = camera.status().meetings[0].events
        assert any("the authorizer allowed it: in the list" in event for event in events)
        if how == "https":
            # It changes its mind.
            allow.write_text("{}")
            camera.until(lambda meeting: sending(meeting).generation is None)
            assert camera.status().meetings[0].refused.get("authorizer-refused")
    if how == "socket":
        # It is dead: what it allowed runs out.
        camera.until(lambda meeting: sending(meeting).generation is None)
        camera.until(lambda meeting: meeting.refused.get("authorizer-unreachable"))
        with example(allow, "--socket", socket):
            seen = opened(viewer.status().meetings[0])
            viewer.until(lambda meeting: opened(meeting) > seen + 30)
