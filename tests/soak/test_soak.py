"""Hours of meeting: does anything grow? `make soak`, two hours; DURATION=900 for a quarter of one."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from integration.conftest import Company, Launch
from integration.running import Running, opened

DURATION = float(os.environ.get("DURATION", "7200"))
# What a process still learns and caches after its start.
WARM_UP = min(600.0, DURATION / 4)
# Seconds in which the visitor stays: some are there for a round, most for less.
STAYS = (5.0, 12.0, 30.0)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(DURATION + 900)]


@dataclass(frozen=True, slots=True)
class Sample:
    """``memory`` is the proportional set size with its children's, bytes."""

    at: float
    memory: int
    descriptors: int
    threads: int


def sample(of: Running, began: float) -> Sample:
    proc = Path(f"/proc/{of.process.pid}")
    threads = len(list((proc / "task").iterdir()))
    return Sample(time.monotonic() - began, of.memory(), len(list((proc / "fd").iterdir())), threads)


def growth(samples: list[Sample], what: str) -> tuple[float, float]:
    """The median of the first and of the last third of what came after the start."""
    warm = [getattr(each, what) for each in samples if each.at > WARM_UP]
    third = max(1, len(warm) // 3)
    return statistics.median(warm[:third]), statistics.median(warm[-third:])


def stays() -> Iterator[float]:
    while True:
        yield from STAYS


def test_nothing_grows(company: Company, launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    visitor = company.cast("visitor")
    one = f'allow-viewers = ["{company.viewer.urn}"]'
    both = {one: f'allow-viewers = ["{company.viewer.urn}", "{visitor.urn}"]'}
    daemons = {"camera": launch("camera", changes=both), "viewer": launch("viewer")}
    camera, viewer = daemons.values()
    viewer.until(lambda meeting: opened(meeting) > 0)
    samples: dict[str, list[Sample]] = {name: [] for name in daemons}
    began = time.monotonic()
    for number, stay in enumerate(stays()):
        guest = launch("visitor", f"visitor-{number}")
        guest.until(lambda meeting: opened(meeting) > 0)
        time.sleep(stay)
        assert guest.stop() == 0
        # Each sample of the same state: two terminals, and the visitor's traces gone.
        for running in daemons.values():
            running.until(lambda meeting: len(meeting.peers) == 1)
        wanted = opened(viewer.status().meetings[0]) + 30
        while opened(viewer.status().meetings[0]) < wanted:
            time.sleep(0.1)
        for name, running in daemons.items():
            samples[name].append(sample(running, began))
            with capsys.disabled():
                click.echo(f"{name} {samples[name][-1]}")
        if time.monotonic() - began > DURATION:
            break
    report = [
        (name, what, *growth(each, what), least)
        for name, each in samples.items()
        for what, least in (("memory", 0.0), ("descriptors", 2.0), ("threads", 2.0))
    ]
    with capsys.disabled():
        for name, what, first, last, _ in report:
            click.echo(f"{name} {what}: {first:.0f} -> {last:.0f}, {len(samples[name])} visits")
    for name, what, first, last, least in report:
        # Memory: an hour may cost a percent, and an allocator's moods four megabytes.
        allowed = first + least if what != "memory" else first * (1 + DURATION / 360_000) + (4 << 20)
        assert last <= allowed, f"{name}: {what} {first} -> {last}"
    assert camera.status().meetings[0].alarms == {}
