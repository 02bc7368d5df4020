"""An SFU, or somebody in its room, that lies about feeds: nothing false is opened, the true picture comes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dongled.agent.meetings.feeds import parse_encrypted
from dongled.agent.sfu.api import Feed
from dongled.agent.status import MeetingStatus
from dongled.media.api import StreamContext
from integration.conftest import Company
from integration.hostile_sfu import Forger, HostileSfu, WithSound
from integration.running import Running, opened, sending
from support.frames import Generation, encoded_vp8, sealer
from support.janus import JanusServer

ROOM = "hostile"
Start = Callable[[str], Running]


@pytest.fixture(scope="module")
def camera(
    company: Company, janus: JanusServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("camera") / "run"
    running = Running.start(company, janus.url, ROOM, "camera", folder, {})
    running.until(lambda meeting: meeting.state == "joined")
    yield running
    running.stop()


@pytest.fixture
def viewer(company: Company, tmp_path: Path) -> Iterator[Start]:
    """Starts the viewer against this signalling server."""
    started: list[Running] = []

    def start(url: str) -> Running:
        started.append(Running.start(company, url, ROOM, "viewer", tmp_path / f"viewer{len(started)}", {}))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@asynccontextmanager
async def forger(janus: JanusServer) -> AsyncIterator[Forger]:
    made = Forger(janus.url, ROOM)
    await made.join()
    try:
        yield made
    finally:
        await made.room.leave()


@pytest.fixture
async def sfu(janus: JanusServer) -> AsyncIterator[HostileSfu]:
    async with HostileSfu(janus.url).serving() as serving:
        yield serving


async def until(running: Running, what: Callable[[MeetingStatus], object]) -> MeetingStatus:
    return await asyncio.to_thread(running.until, what)


async def sees(running: Running, more: int = 30) -> MeetingStatus:
    """Until this many more frames have opened."""
    before = opened((await asyncio.to_thread(running.status)).meetings[0])
    return await until(running, lambda meeting: opened(meeting) > before + more)


def not_shown(meeting: MeetingStatus) -> dict[str, int]:
    """Frames that came and were not shown, by reason, those of what is still held too."""
    if not meeting.receiving:
        return {}
    came = meeting.receiving[0]
    return {**came.frames_failed, **came.frames_skipped, "held": came.frames_held}


def of_a_stranger(feed: Feed, generation: int) -> list[bytes]:
    """Sealed as the camera's frames are, for its stream and its KID, with a key of the forger's own."""
    claim = parse_encrypted(feed.display)
    assert claim is not None
    context = StreamContext("demo", claim.session, claim.stream, "vp8")
    seal = sealer(Generation(generation), context).seal
    return [seal(frame) for _ in range(10) for frame in encoded_vp8()]


@pytest.mark.property("P10")
@pytest.mark.property("P14")
@pytest.mark.parametrize(
    ("what", "reasons"),
    [
        ("plain", {"malformed", "tag", "held", "held-too-long"}),
        ("of a stranger", {"tag"}),
        ("of an earlier generation", {"held", "held-too-long"}),
        ("noise", {"malformed"}),
    ],
)
async def test_a_feed_under_another_s_name_opens_nothing_and_gives_way_to_the_true_one(
    what: str, reasons: set[str], camera: Running, viewer: Start, janus: JanusServer, sfu: HostileSfu
) -> None:
    async with forger(janus) as somebody:
        true = await somebody.the_feed()
        if what == "of an earlier generation":
            first = viewer(janus.url)
            await until(first, lambda meeting: opened(meeting) > 0)
            recorder = await somebody.record(true)
            await asyncio.wait_for(recorder.enough.wait(), 20)
            frames = recorder.frames[:60]
            await somebody.room.unsubscribe(true.id)
            await asyncio.to_thread(first.stop)
            await until(camera, lambda meeting: not meeting.peers)
        elif what == "plain":
            frames = list(encoded_vp8())
        elif what == "noise":
            frames = [b"\x0f" + os.urandom(500) for _ in range(60)]
        # The camera seals with a generation that nobody can know before the viewer is there.
        hidden = {true.id}
        sfu.rewrite = lambda items: [item for item in items if str(item["id"]) not in hidden]
        watching = viewer(sfu.url)
        if what == "of a stranger":
            meeting = await until(camera, lambda meeting: sending(meeting).generation)
            frames = of_a_stranger(true, sending(meeting).generation or 0)
        await somebody.publish(true.display, frames)
        meeting = await until(watching, lambda meeting: sum(not_shown(meeting).values()) > 20)
        assert opened(meeting) == 0
        assert reasons & {reason for reason, count in not_shown(meeting).items() if count}
        await sfu.publishes(sfu.known[true.id])
        await sees(watching)
        assert (await asyncio.to_thread(watching.status)).meetings[0].session == meeting.session


@pytest.mark.property("P11")
async def test_what_was_recorded_is_not_shown_again(
    camera: Running, viewer: Start, janus: JanusServer, sfu: HostileSfu
) -> None:
    async with forger(janus) as somebody:
        true = await somebody.the_feed()
        watching = viewer(sfu.url)
        await until(watching, lambda meeting: opened(meeting) > 0)
        recorder = await somebody.record(true)
        await asyncio.wait_for(recorder.enough.wait(), 20)
        await somebody.room.unsubscribe(true.id)
        await sees(watching)
        false = await somebody.publish(true.display, recorder.frames[:60])
        await until(watching, lambda meeting: true.id in sfu.known and false in sfu.known)
        await sfu.unpublishes(true.id)
        meeting = await until(watching, lambda meeting: not_shown(meeting).get("replay", 0) > 60)
        after = await until(watching, lambda meeting: not_shown(meeting).get("replay", 0) > 120)
        assert opened(after) == opened(meeting)
        await sfu.publishes(sfu.known[true.id])
        await sees(watching)


@pytest.mark.property("P10")
@pytest.mark.parametrize(
    ("changes", "reason"), [({"e2ee": False}, "feed-plain"), ({"video_codec": "h264"}, "feed-codec")]
)
async def test_a_feed_that_is_said_to_be_another_kind_is_refused(
    changes: dict[str, Any],
    reason: str,
    camera: Running,
    viewer: Start,
    sfu: HostileSfu,
) -> None:
    sfu.rewrite = lambda items: [{**item, **changes} for item in items]
    watching = viewer(sfu.url)
    meeting = await until(watching, lambda meeting: meeting.refused.get(reason))
    assert not meeting.receiving or not meeting.receiving[0].frames_received
    await sfu.publishes(*sfu.known.values())
    await sees(watching)


@pytest.mark.property("P10")
async def test_a_feed_that_cannot_be_had_costs_nobody_the_meeting(
    camera: Running, viewer: Start, janus: JanusServer, sfu: HostileSfu
) -> None:
    async with forger(janus) as somebody:
        true = await somebody.the_feed()
        sfu.rewrite = lambda items: [item for item in items if str(item["id"]) != true.id]
        watching = viewer(sfu.url)
        await somebody.room.publish(true.display, WithSound())
        meeting = await until(watching, lambda meeting: meeting.refused.get("unexpected-offer"))
        await sfu.publishes(sfu.known[true.id])
        await sees(watching)
        assert (await asyncio.to_thread(watching.status)).meetings[0].session == meeting.session


async def test_a_flood_of_requests_makes_one_key_frame_a_second(
    camera: Running, viewer: Start, janus: JanusServer
) -> None:
    async with forger(janus) as somebody:
        true = await somebody.the_feed()
        watching = viewer(janus.url)
        await until(watching, lambda meeting: opened(meeting) > 30)
        recorder = await somebody.record(true)
        await asyncio.wait_for(recorder.enough.wait(), 20)
        assert recorder.ask is not None
        began = time.monotonic()
        before = sending((await asyncio.to_thread(camera.status)).meetings[0]).keyframes
        for _ in range(250):
            recorder.ask()
            await asyncio.sleep(0.02)
        meeting = (await asyncio.to_thread(camera.status)).meetings[0]
        forced = sending(meeting).keyframes - before
        assert 2 <= forced <= time.monotonic() - began + 1
        await sees(watching)
