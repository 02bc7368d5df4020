"""The watchdog is fed while the loop turns and running sources give pictures, whatever the network does."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from dongled.agent.meetings.journal import Journal
from dongled.agent.meetings.meeting import Meeting
from dongled.agent.meetings.plain import PlainSession
from dongled.agent.meetings.streams import OutboundSettings, Sinks, Streams
from dongled.agent.notify import Notifier
from dongled.agent.sfu.janus.room import JanusSettings
from dongled.agent.vitality import Progress, Vitality
from dongled.config.api import MeetingSettings
from dongled.media.api import Picture
from dongled.media.webrtc import IceSettings
from service.manager import Manager, manager

URL = "ws://127.0.0.1:1"
SETTINGS = MeetingSettings.model_validate(
    {"name": "lobby", "room": "lobby", "encryption": "plain", "sfu": {"url": URL}}
)
WATCHDOG = 20.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Manager]:
    with manager(tmp_path) as made:
        yield made


class HandSource:
    """Gives a picture when a test says so, and else stalls: no picture, no error."""

    width, height, fps = 320, 192, 30

    def __init__(self) -> None:
        self._pictures: queue.Queue[Picture] = queue.Queue()
        self.why = ""

    def start(self) -> None: ...

    def read(self, timeout: float) -> Picture | None:
        try:
            picture = self._pictures.get(timeout=timeout)
        except queue.Empty:
            return None
        return picture

    def close(self) -> None: ...

    def give(self) -> None:
        self._pictures.put(Picture(av.VideoFrame(320, 192, "yuv420p"), 0, 0.0))


class Terminal:
    """A meeting with one stream, whose source and clock a test holds."""

    def __init__(self, systemd: Manager, watchdog: float | None = WATCHDOG) -> None:
        self.now = 100.0
        self.source = HandSource()
        mine = [OutboundSettings("camera", "vp8", 500_000, lambda: self.source)]
        streams = Streams(IceSettings(), lambda peer, stream: Sinks(), lambda error: None)
        room = JanusSettings(url=URL, room="lobby", create=False, encrypted=False)
        journal = Journal("lobby")
        session = PlainSession("lobby", room, IceSettings(), "me", mine, streams, lambda _: False, journal)
        self.stream = streams.outgoing["camera"].stream
        self.meeting = Meeting(SETTINGS, lambda: session, journal)
        self.meeting.session, self.meeting.state = session, "joined"
        self.vitality = Vitality(Notifier(systemd.environment(watchdog)), [self.meeting], lambda: self.now)

    async def give_picture(self) -> None:
        before = self.stream.stats().frames_captured
        self.source.give()
        while self.stream.stats().frames_captured == before:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.005)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.vitality.turn()


async def test_pictures_feed_the_watchdog_and_a_stall_starves_it(
    systemd: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal(systemd)
    terminal.stream.start()
    for _ in range(5):
        await terminal.give_picture()
        terminal.later(WATCHDOG / 2)
        assert systemd.hear() == {"WATCHDOG": "1", "STATUS": "lobby: joined"}
    terminal.later(WATCHDOG / 2 + 0.1)
    assert systemd.hear() == {"STATUS": "no pictures from camera"}
    terminal.later(1.0)
    assert "WATCHDOG" not in systemd.hear()
    assert caplog.text.count("no pictures from camera") == 1
    await terminal.give_picture()
    terminal.later(1.0)
    assert systemd.hear()["WATCHDOG"] == "1"
    terminal.stream.stop()


async def test_a_camera_that_never_opens_starves_it_too(systemd: Manager) -> None:
    terminal = Terminal(systemd)
    terminal.later(0.0)
    assert systemd.hear()["WATCHDOG"] == "1"
    terminal.later(WATCHDOG / 2 + 0.1)
    assert "WATCHDOG" not in systemd.hear()


async def test_a_camera_that_is_waited_for_starves_nothing(systemd: Manager) -> None:
    terminal = Terminal(systemd)
    terminal.source.why = "unplugged [camera-gone]"
    for _ in range(3):
        terminal.later(WATCHDOG)
        assert systemd.hear()["WATCHDOG"] == "1"
    terminal.source.why = ""
    terminal.later(0.0)
    systemd.forget()
    terminal.later(WATCHDOG)
    assert "WATCHDOG" not in systemd.hear()


@pytest.mark.parametrize("state", ["waiting", "connecting"])
async def test_a_meeting_in_backoff_needs_no_pictures(systemd: Manager, state: str) -> None:
    terminal = Terminal(systemd)
    terminal.later(0.0)
    terminal.meeting.state, terminal.meeting.why = state, "refused\nWATCHDOG=0 [x]"
    systemd.forget()
    for _ in range(5):
        terminal.later(WATCHDOG)
        told = systemd.hear()
        assert told == {"WATCHDOG": "1", "STATUS": f"lobby: {state} (refused WATCHDOG=0 [x])"}


async def test_a_session_that_was_joined_again_starts_afresh(systemd: Manager) -> None:
    terminal = Terminal(systemd)
    terminal.later(0.0)
    terminal.meeting.state = "waiting"
    terminal.later(WATCHDOG)
    terminal.meeting.state = "joined"
    terminal.later(WATCHDOG)
    systemd.forget()
    terminal.later(WATCHDOG / 2)
    assert systemd.hear()["WATCHDOG"] == "1"


async def test_without_a_watchdog_the_status_is_told_and_nothing_starves(systemd: Manager) -> None:
    terminal = Terminal(systemd, watchdog=None)
    terminal.later(0.0)
    terminal.later(1000.0)
    assert [systemd.hear(), systemd.hear()] == [{"STATUS": "lobby: joined"}] * 2


def test_each_source_is_minded_by_itself() -> None:
    progress = Progress(10.0)
    assert progress.stalled({("a", "1"): 0, ("a", "2"): 0}, 0.0) == []
    assert progress.stalled({("a", "1"): 1, ("a", "2"): 0}, 10.1) == [("a", "2")]
    assert progress.stalled({("b", "2"): 0}, 20.0) == []


class Loop:
    """An event loop of its own thread, running the watchdog, that can be made to hang."""

    def __init__(self, work: Callable[[], Vitality]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._hanging, self._release = threading.Event(), threading.Event()

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(work().run())

        self._task = asyncio.run_coroutine_threadsafe(start(), self._loop).result(20)

    def hang(self) -> None:
        def stuck() -> None:
            self._hanging.set()
            self._release.wait()

        self._loop.call_soon_threadsafe(stuck)
        assert self._hanging.wait(20)

    def go_on(self) -> None:
        self._release.set()

    def close(self) -> None:
        self.go_on()
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def test_a_loop_that_hangs_feeds_nothing(systemd: Manager) -> None:
    loop = Loop(lambda: Vitality(Notifier(systemd.environment(0.2)), []))
    try:
        for _ in range(3):
            systemd.until("WATCHDOG")
        loop.hang()
        systemd.forget()
        with pytest.raises(TimeoutError):
            systemd.hear(0.6)
        loop.go_on()
        systemd.until("WATCHDOG")
    finally:
        loop.close()
