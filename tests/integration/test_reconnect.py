"""The SFU or the network goes and comes back: so does the meeting, by itself, in new sessions."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.conftest import Company
from integration.running import Running, opened, sending
from support.janus import JanusServer
from support.netns import ADDRESS

pytestmark = pytest.mark.timeout(400)

# Seconds from the return of what was gone to a new picture; times three.
BACK_WITHIN = 3 * 10.0
# Longer than it takes to be noticed: Janus is asked every 5 s, and has 5 s to answer.
GONE = 14.0

Outage = Callable[[], None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JanusServer]:
    with JanusServer(tmp_path / "janus") as server:
        yield server


@pytest.fixture
def pair(company: Company, server: JanusServer, tmp_path: Path) -> Iterator[tuple[Running, Running]]:
    camera, viewer = (
        Running.start(company, server.url, "back", name, tmp_path / name, {}) for name in ("camera", "viewer")
    )
    yield camera, viewer
    camera.stop()
    viewer.stop()


def nft(*words: str) -> None:
    subprocess.run(["nft", *words], check=True, capture_output=True)


def without_network() -> None:
    """In this run's own network namespace nothing gets through, for a while."""
    nft("add", "table", "inet", "gone")
    try:
        nft("add chain inet gone output { type filter hook output priority 0 ; }")
        nft("add", "rule", "inet", "gone", "output", "ip", "daddr", ADDRESS, "drop")
        time.sleep(GONE)
    finally:
        nft("delete", "table", "inet", "gone")


@pytest.mark.property("P11")
@pytest.mark.parametrize("what", ["janus", "network"])
def test_the_meeting_comes_back_with_fresh_sessions_and_keys(
    what: str, server: JanusServer, pair: tuple[Running, Running], capsys: pytest.CaptureFixture[str]
) -> None:
    camera, viewer = pair
    viewer.until(lambda meeting: opened(meeting) > 30)
    before = [running.status().meetings[0] for running in pair]
    assert sending(before[0]).generation is not None
    began = time.monotonic()
    if what == "janus":
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        for running in pair:
            running.until(lambda meeting: meeting.state != "joined")
        # Each try in vain makes them wait longer before the next.
        time.sleep(6)
        noticed = time.monotonic() - began
        server.__enter__()
    else:
        without_network()
        noticed = GONE
    back = time.monotonic()
    sessions = {meeting.session for meeting in before}
    joined = []
    for running in pair:
        running.until(lambda meeting: meeting.state == "joined" and meeting.session not in sessions)
        joined.append(time.monotonic() - back)
    after = viewer.until(lambda meeting: meeting.session not in sessions and opened(meeting) > 0)
    took = time.monotonic() - back
    with capsys.disabled():
        print(  # noqa: T201 - the times are the result
            f"\n  {what} gone for {noticed:.1f} s: both joined {max(joined):.1f} s "
            f"after its return, a picture after {took:.1f} s"
        )
    assert took < BACK_WITHIN
    # Keys are named by session and KID: no pair of before is used again.
    came = after.receiving[0]
    assert came.session not in sessions
    assert came.session == camera.status().meetings[0].session
    assert not any(came.frames_failed.values())
    viewer.until(lambda meeting: opened(meeting) > 60)
