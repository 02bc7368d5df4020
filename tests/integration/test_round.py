"""Rounds on a real Janus: all is taken anew, the picture goes on, and every frame is accounted for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dongled.agent.demo.commands import start
from dongled.agent.status import InboundStatus
from integration.conftest import Company
from integration.running import Running, opened, sending
from support.janus import JanusServer

# Round, jitter, renewal, its spread, expiry and grace (limits.py), shortened in the same order of sizes.
SHORT = {"ROUND": 8, "ROUND_JITTER": 1, "RENEW": 4, "RENEW_SPREAD": 2, "EXPIRE": 5, "GRACE": 2}
LAUNCHER = """
import sys
from dongled.agent.protocol import limits
for change in {changes!r}.items():
    setattr(limits, *change)
from dongled.agent.cli.main import main
main()
"""
# Why a frame may not have opened: it came too early or too late for its key.
NAMED = {"held-too-long", "retired"}
# Seconds without a new picture on a machine under full load; thirty come each second.
DARK = 3.0


@dataclass
class Watched:
    """What a viewer's status said over some time."""

    seconds: float
    generations: set[int]
    longest_gap: float
    last: InboundStatus
    opened: int
    not_shown: dict[str, int]


def short(*arguments: str | Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """``dongled`` with short rounds."""
    code = LAUNCHER.format(changes={name: float(value) for name, value in SHORT.items()})
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def watch(viewer: Running, seconds: float) -> Watched:
    """Look every 50 ms whether there are new pictures."""
    first = viewer.until(lambda meeting: opened(meeting) > 30).receiving[0]
    began = at = time.monotonic()
    seen, longest, generations = first.frames_opened, 0.0, set()
    last = first
    while time.monotonic() - began < seconds:
        time.sleep(0.05)
        asked = time.monotonic()
        last = viewer.status().meetings[0].receiving[0]
        if last.generation is not None:
            generations.add(last.generation)
        if last.frames_opened > seen:
            longest, at, seen = max(longest, asked - at), asked, last.frames_opened
    # What was held in vain is counted among the skipped; the others of those have opened.
    lost = {**last.frames_failed, "held-too-long": last.frames_skipped.get("held-too-long", 0)}
    return Watched(
        seconds,
        generations,
        max(longest, time.monotonic() - at),
        last,
        last.frames_opened - first.frames_opened,
        {reason: count for reason, count in lost.items() if count},
    )


Pair = Callable[..., tuple[Running, Running]]


@pytest.fixture
def pair(company: Company, janus: JanusServer, tmp_path: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:

        def begin(launch: Callable[..., subprocess.Popen[bytes]] = start) -> tuple[Running, Running]:
            camera, viewer = (
                Running.start(company, janus.url, tmp_path.name, name, tmp_path / name, {}, launch)
                for name in ("camera", "viewer")
            )
            stack.callback(camera.stop)
            stack.callback(viewer.stop)
            return camera, viewer

        yield begin


def accounted(watched: Watched) -> None:
    came = watched.last
    assert came.frames_received == came.frames_opened + sum(watched.not_shown.values()) + came.frames_held


@pytest.mark.property("P7")
@pytest.mark.timeout(300)
def test_the_picture_goes_on_through_short_rounds(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    camera, viewer = pair(short)
    watched = watch(viewer, 24)
    sender, receiver = camera.status(), viewer.status()
    with capsys.disabled():
        print(f"\n  {watched}")  # noqa: T201 - the figures are the result
    # Rounds of 8 to 9 s, each with a fresh generation after four.
    assert len(watched.generations) >= 3
    assert watched.longest_gap < DARK
    accounted(watched)
    assert not watched.not_shown.keys() - NAMED
    # The camera's token opens nothing, the viewer's once for each of the camera's rounds.
    assert sender.token.derive == 0
    assert receiver.token.derive >= 3
    assert sending(sender.meetings[0]).generation == max(watched.generations)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_picture_goes_on_through_a_true_round(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    camera, viewer = pair()
    watched = watch(viewer, 370)
    with capsys.disabled():
        print(f"\n  {watched}\n  {camera.status().token}\n  {viewer.status().token}")  # noqa: T201 - the figures are the result
    assert len(watched.generations) >= 2
    assert watched.longest_gap < DARK
    accounted(watched)
    assert not watched.not_shown.keys() - NAMED
