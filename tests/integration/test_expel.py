"""A moderator sends a viewer out of a real meeting, and everybody else stays."""

from __future__ import annotations

import subprocess
import time

import pytest

from dongled.agent.demo.commands import PROGRAM
from integration.conftest import Company, Launch
from integration.running import Running, opened, sending, watching

pytestmark = pytest.mark.timeout(300)

# docs/protocol.md, P6: two seconds; times three.
BLIND_WITHIN = 3 * 2.0


def expel(of: Running, peer: str) -> subprocess.CompletedProcess[str]:
    socket = of.folder / "control.sock"
    return subprocess.run(
        [PROGRAM, "expel", peer, "--reason", "not invited", "--socket", socket],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.property("P6")
def test_who_is_expelled_is_blind_and_the_others_see_on(company: Company, launch: Launch) -> None:
    other, moderator = company.cast("other"), company.cast("moderator")
    one = f'allow-viewers = ["{company.viewer.urn}"]'
    both = {one: f'allow-viewers = ["{company.viewer.urn}", "{other.urn}"]'}
    camera, staying, leaving = launch("camera", changes=both), launch("viewer"), launch("other")
    guard = launch("moderator")
    for viewer in (staying, leaving):
        viewer.until(lambda meeting: opened(meeting) > 0)
    for terminal in (camera, staying):
        terminal.until(lambda meeting: any(p.terminal == moderator.urn and p.live for p in meeting.peers))
    guard.until(lambda meeting: len([peer for peer in meeting.peers if peer.live]) == 3)

    refused = expel(staying, other.urn)
    assert refused.returncode != 0
    assert "moderator role" in refused.stderr
    nobody = expel(guard, "nobody")
    assert nobody.returncode != 0
    assert "no-such-peer" in nobody.stderr

    before = sending(camera.status().meetings[0]).generation
    asked = time.monotonic()
    told = expel(guard, other.urn)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"expelled from demo: {other.urn} (")
    assert "; viewer; software)" in told.stdout
    meeting = camera.until(lambda meeting: (sending(meeting).generation or 0) > (before or 0))
    after = sending(meeting).generation
    assert after is not None
    assert time.monotonic() - asked < BLIND_WITHIN
    assert any("not invited" in event for event in camera.status().meetings[0].events)

    seen = opened(staying.status().meetings[0])
    staying.until(lambda meeting: opened(meeting) > seen + 90)
    # What was under way when it was told to go opens, and nothing of what came after.
    came = watching(leaving.status().meetings[0])
    assert came is None or (came.generation or 0) < after
    camera.until(
        lambda meeting: {peer.terminal for peer in meeting.peers} == {company.viewer.urn, moderator.urn}
    )
    # It need not have heard that the moderator is live: the order names this session of its own.
    leaving.until(lambda meeting: meeting.alarms.get("expelled"))
