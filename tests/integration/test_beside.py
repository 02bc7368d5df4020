"""A plain meeting beside an encrypted one, in one daemon on one Janus: neither gets into the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dongled.agent.meetings.feeds import plain_display
from dongled.agent.status import MeetingStatus
from integration.conftest import Company
from integration.hostile_sfu import HostileSfu
from integration.running import Running, opened
from support.janus import JanusServer

pytestmark = [pytest.mark.timeout(300), pytest.mark.property("P10")]

SEALED, PLAIN = 0, 1
ROOMS = ("beside-sealed", "beside-plain")
STREAM = """
[[stream]]
id = "open"
source = "testsrc"
width = 320
height = 180
fps = 15
bitrate = 300000
"""
MEETING = """
[[meeting]]
name = "open"
encryption = "plain"
room = "{room}"
create = true
publish = {publish}
subscribe = "{subscribe}"

[meeting.sfu]
url = "{url}"
"""


def both(company: Company, name: str, folder: Path, urls: tuple[str, str]) -> Running:
    """One daemon in both meetings, each by a signalling server of its own."""
    camera = name == "camera"
    meeting = MEETING.format(
        room=ROOMS[PLAIN],
        url=urls[PLAIN],
        publish='["open"]' if camera else "[]",
        subscribe="none" if camera else "all",
    )
    sfu = f'url = "{urls[SEALED]}"\n'
    changes = {
        sfu: sfu + meeting,
        '\n[[meeting]]\nname = "demo"': STREAM * camera + '\n[[meeting]]\nname = "demo"',
    }
    return Running.start(company, urls[SEALED], ROOMS[SEALED], name, folder, dict(reversed(changes.items())))


@pytest.fixture(scope="module")
def camera(
    company: Company, janus: JanusServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    running = both(company, "camera", tmp_path_factory.mktemp("beside") / "run", (janus.url, janus.url))
    for number in (SEALED, PLAIN):
        running.until(lambda meeting: meeting.state == "joined", number=number)
    yield running
    running.stop()


@dataclass
class Between:
    """A viewer, and the two hostile SFUs between it and Janus."""

    viewer: Running
    sfus: tuple[HostileSfu, HostileSfu]

    async def meeting(self, number: int) -> MeetingStatus:
        return (await asyncio.to_thread(self.viewer.status)).meetings[number]

    async def until(self, number: int, what: Any) -> MeetingStatus:
        return await asyncio.to_thread(lambda: self.viewer.until(what, number=number))

    async def sees(self, number: int, more: int = 20) -> None:
        before = opened(await self.meeting(number))
        await self.until(number, lambda meeting: opened(meeting) > before + more)

    def the_feed(self, number: int) -> dict[str, Any]:
        return next(iter(self.sfus[number].known.values()))

    async def splice(self, into: int, display: str, **flags: Any) -> str:
        """Publish the other meeting's feed in this one, under this name, whatever its own feed is."""
        other = self.the_feed(1 - into)
        number = len(self.sfus[into].known)
        false = {**self.the_feed(into), "id": f"false-{number}", "display": display, **flags}
        self.sfus[into].splice[false["id"]] = ROOMS[1 - into], other["id"]
        self.sfus[into].known[false["id"]] = false
        await self.sfus[into].publishes(false)
        return str(false["id"])


@pytest.fixture
async def between(
    company: Company, camera: Running, janus: JanusServer, tmp_path: Path
) -> AsyncIterator[Between]:
    sealed, plain = HostileSfu(janus.url), HostileSfu(janus.url)
    async with sealed.serving(), plain.serving():
        viewer = both(company, "viewer", tmp_path / "viewer", (sealed.url, plain.url))
        try:
            between = Between(viewer, (sealed, plain))
            await between.until(SEALED, lambda meeting: opened(meeting) > 10)
            await between.until(PLAIN, lambda meeting: opened(meeting) > 10)
            yield between
        finally:
            await asyncio.to_thread(viewer.stop)


async def test_both_go_on_and_know_nothing_of_each_other(between: Between, camera: Running) -> None:
    sealed, plain = await between.meeting(SEALED), await between.meeting(PLAIN)
    assert (sealed.encryption, plain.encryption) == ("required", "plain")
    assert [came.stream for came in sealed.receiving] == ["camera"]
    assert [came.stream for came in plain.receiving] == ["open"]
    assert not sealed.refused
    assert not plain.refused
    # No key, peer or message of the protocol is in the plain one.
    assert not plain.peers
    assert not plain.messages_sent
    assert plain.receiving[0].generation is None
    for number in (SEALED, PLAIN):
        await between.sees(number)
    ours = (await asyncio.to_thread(camera.status)).meetings
    assert [sent.stream for meeting in ours for sent in meeting.sending] == ["camera", "open"]


@pytest.mark.parametrize("flagged", [True, False])
async def test_a_plain_feed_in_the_encrypted_meeting_opens_nothing(between: Between, flagged: bool) -> None:
    sealed = between.the_feed(SEALED)
    await between.sfus[SEALED].unpublishes(str(sealed["id"]))
    await between.until(SEALED, lambda meeting: meeting.receiving[0].fps == 0)
    before = await between.meeting(SEALED)
    false = await between.splice(SEALED, sealed["display"], e2ee=flagged)
    if flagged:
        came = before.receiving[0].frames_received
        after = await between.until(SEALED, lambda m: m.receiving[0].frames_received > came + 20)
        assert after.receiving[0].frames_decoded == before.receiving[0].frames_decoded
    else:
        after = await between.until(SEALED, lambda meeting: meeting.refused.get("feed-plain"))
    assert opened(after) == opened(before)
    await between.sfus[SEALED].unpublishes(false)
    await between.sfus[SEALED].publishes(sealed)
    await between.sees(SEALED)
    await between.sees(PLAIN)


@pytest.mark.parametrize("flagged", [True, False])
async def test_a_sealed_feed_in_the_plain_meeting_is_no_picture(between: Between, flagged: bool) -> None:
    sealed = between.the_feed(SEALED)
    await between.splice(PLAIN, sealed["display"], e2ee=flagged)
    await between.splice(PLAIN, plain_display("camera", "camera"), e2ee=True)
    await between.sees(PLAIN)
    # Neither the encrypted meeting's name of a feed nor a feed that is flagged is watched here.
    after = await between.meeting(PLAIN)
    assert [came.stream for came in after.receiving] == ["open"]
    if not flagged:
        # A lie about both gets ciphertext to where no key is: the true feed and the other meeting go on.
        await between.splice(PLAIN, plain_display("camera", "camera"), e2ee=False)
        after = await between.until(
            PLAIN, lambda meeting: any(c.frames_received > 20 for c in meeting.receiving[1:])
        )
        assert after.receiving[1].generation is None
    await between.sees(PLAIN)
    await between.sees(SEALED)
    assert not (await between.meeting(SEALED)).refused
