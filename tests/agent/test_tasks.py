"""Tasks that belong to one owner, and what is begun again when it fails."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys

import pytest

from dongled.agent import tasks
from dongled.agent.tasks import OwnedTasks, aside, keep_going


async def test_what_fails_is_begun_again_ever_later_and_told_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", slept)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 13:
            raise RuntimeError("a defect")

    await keep_going("asking", work)
    assert runs == 13
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == tasks.AGAIN_MOST
    assert caplog.text.count("asking failed, and is begun again") == 12


async def test_what_held_for_long_begins_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], list[float]()

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", slept)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    monkeypatch.setattr(tasks, "boottime", lambda: now[0])

    async def work() -> None:
        if len(pauses) == 5:
            return
        now[0] += 1000.0 if len(pauses) == 4 else 1.0
        raise RuntimeError("a defect")

    await keep_going("asking", work)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 1.0]


async def test_it_ends_when_it_is_cancelled() -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    owned = OwnedTasks(lambda error: pytest.fail(str(error)))
    owned.spawn(keep_going("asking", work))
    await began.wait()
    await owned.cancel()
    assert len(owned) == 0


async def test_what_is_done_aside_fails_here() -> None:
    def defect() -> None:
        raise LookupError("a defect")

    with pytest.raises(LookupError):
        await aside(defect)


def test_what_hangs_aside_holds_up_no_end() -> None:
    script = (
        "import asyncio, threading; from dongled.agent.tasks import aside\n"
        "async def main():\n"
        "    async with asyncio.timeout(0.01): await aside(threading.Event().wait)\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "TimeoutError" in done.stderr
