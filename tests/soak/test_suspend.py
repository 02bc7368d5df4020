"""A terminal that sleeps in mid-meeting, as a laptop does, is in it again when it wakes."""

from __future__ import annotations

import signal
import time

import pytest

from integration.conftest import Launch
from integration.running import opened, sending, watching

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]


@pytest.mark.parametrize("seconds", [30.0, 90.0], ids=["the SFU still knows it", "the SFU has given it up"])
def test_a_terminal_that_slept_is_back(launch: Launch, seconds: float) -> None:
    camera, viewer = launch("camera"), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 10)
    # A stopped process sees what one sees whose machine slept: CLOCK_BOOTTIME went on, nothing was answered.
    camera.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    assert not any(peer.live for peer in viewer.status().meetings[0].peers)
    camera.process.send_signal(signal.SIGCONT)
    woke = time.monotonic()
    camera.until(lambda meeting: sending(meeting).generation is not None and sending(meeting).fps > 10)
    came = watching(viewer.until(lambda meeting: opened(meeting) > 10))
    assert came is not None
    assert came.frames_failed == {}
    assert camera.status().meetings[0].alarms == {}
    assert time.monotonic() - woke < 30
