"""Streams over real peer connections and sockets, with aiortc on both ends of a network of our own."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiortc
import av
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from OpenSSL import SSL

from dongled.media.errors import MediaError
from dongled.media.inbound import InboundStats, InboundStream
from dongled.media.outbound import OutboundStream
from dongled.media.webrtc import BusLink, IceSettings, Publication, Subscription, TurnServer, seams
from support import moving
from support.frames import Generation, context
from support.moving import Kept, MovingSource

NO_SERVERS = IceSettings()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.005)


class Meeting:
    """A stream from one peer connection straight to another, our offer and our answer."""

    def __init__(self, *, encrypted: bool = True) -> None:
        self.source = MovingSource(fps=60)
        self.out = OutboundStream(self.source, context(), bitrate=1_000_000, encrypted=encrypted)
        self.kept = Kept()
        self.inbound = InboundStream(context(), [self.kept], encrypted=encrypted)
        self.publication = Publication(self.out, NO_SERVERS)
        self.subscription = Subscription(self.inbound, NO_SERVERS)
        self.states: list[str] = []

    async def connect(self) -> None:
        self.publication.on_state(self.states.append)
        offer = await self.publication.offer()
        await self.publication.accept(await self.subscription.answer(offer))
        await asyncio.to_thread(self.out.start)
        await until(lambda: self.publication.state == "connected")

    def seal(self, generation: Generation) -> None:
        self.out.use_key(generation.kid, generation.base_key, generation.signing_key)

    def open(self, generation: Generation) -> None:
        self.inbound.install(generation.kid, generation.base_key, generation.verify_key)

    async def shown(self, count: int) -> None:
        await until(lambda: len(self.kept.pictures) >= count)

    async def close(self) -> None:
        await self.publication.close()
        await self.subscription.close()
        await asyncio.to_thread(self.out.stop)
        await asyncio.to_thread(self.inbound.close)

    @property
    def stats(self) -> InboundStats:
        return self.inbound.stats()

    @property
    def numbers(self) -> list[int]:
        return [moving.number_of(moving.luma_of(picture.frame)) for picture in self.kept.pictures]


@asynccontextmanager
async def meeting(*, encrypted: bool = True) -> AsyncIterator[Meeting]:
    made = Meeting(encrypted=encrypted)
    await made.connect()
    try:
        yield made
    finally:
        await made.close()


async def test_a_sealed_stream_arrives_whole_and_nothing_of_it_reaches_aiortcs_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(aiortc.rtcrtpreceiver, "get_decoder")
    generation = Generation()
    async with meeting() as made:
        made.open(generation)
        made.seal(generation)
        await made.shown(45)
    assert made.numbers == list(range(made.numbers[0], made.numbers[0] + len(made.numbers)))
    assert min(moving.psnr(picture.frame) for picture in made.kept.pictures) > 30
    stats = made.stats
    assert (stats.frames_failed, stats.gaps, stats.skipped, stats.keyframe_requests) == (0, 0, {}, 0)
    assert stats.frames_received == stats.frames_opened == stats.decoded
    assert made.out.stats().keyframes == 1
    assert made.states == ["connecting", "connected", "closed"]
    assert made.source.closed.is_set()


async def test_a_plain_stream_arrives_when_both_ends_say_plain() -> None:
    async with meeting(encrypted=False) as made:
        await made.shown(10)
    assert min(moving.psnr(picture.frame) for picture in made.kept.pictures) > 30


async def test_keys_change_without_a_lost_picture_even_when_they_come_late() -> None:
    generations = [Generation(kid=kid) for kid in (1, 2, 3)]
    async with meeting() as made:
        made.open(generations[0])
        made.seal(generations[0])
        await made.shown(10)
        made.open(generations[1])
        made.seal(generations[1])
        await made.shown(20)
        made.seal(generations[2])
        await until(lambda: made.stats.held > 5)
        made.open(generations[2])
        await made.shown(40)
    assert made.numbers == list(range(made.numbers[0], made.numbers[0] + len(made.numbers)))
    stats = made.stats
    assert (stats.frames_failed, stats.gaps, stats.skipped) == (0, 0, {})
    assert made.out.stats().keyframes == 3
    assert stats.last is not None
    assert stats.last[0] == 3


async def test_a_lost_frame_asks_over_the_network_for_a_key_frame_and_gets_it() -> None:
    generation = Generation()
    async with meeting() as made:
        made.open(generation)
        made.seal(generation)
        await made.shown(5)
        receive, made.subscription._tap._deliver = made.inbound.receive, lambda frame: None  # type: ignore[union-attr] # connected above
        await until(lambda: made.out.stats().frames_sent > 10)
        made.subscription._tap._deliver = receive  # type: ignore[union-attr] # as above
        shown = len(made.kept.pictures)
        await made.shown(shown + 5)
        assert (await made.publication.stats()).keyframe_requests == 1
    assert made.stats.gaps == 1
    assert made.out.stats().keyframes == 2
    assert min(moving.psnr(picture.frame) for picture in made.kept.pictures) > 30


@pytest.mark.parametrize("loss", [0.02, 0.05])
async def test_lost_packets_are_asked_for_again_and_every_picture_arrives(loss: float) -> None:
    chance = random.Random(11)
    generation = Generation()
    async with meeting() as made:
        transport = made.publication._sender.transport  # type: ignore[union-attr] # connected
        send = transport._send_rtp

        async def lossy(data: bytes) -> None:
            if chance.random() >= loss:
                await send(data)

        transport._send_rtp = lossy  # type: ignore[method-assign] # a network that loses
        made.open(generation)
        made.seal(generation)
        await made.shown(90)
        asked_for = (await made.publication.stats()).nacked
    assert asked_for > 0
    arrived = [picture.captured_at for picture in made.kept.pictures]
    # Twice as long as a packet is waited for; times three.
    assert max(b - a for a, b in itertools.pairwise(arrived)) < 3 * 0.5
    assert min(moving.psnr(picture.frame) for picture in made.kept.pictures) > 30
    assert made.stats.frames_failed == 0


async def stock_aiortc_watches(*, encrypted: bool) -> list[av.VideoFrame]:
    """What aiortc's own receiver and decoder make of forty frames of a stream of ours."""
    out = OutboundStream(MovingSource(fps=60), context(), bitrate=1_000_000, encrypted=encrypted)
    publication = Publication(out, NO_SERVERS)
    stock = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pictures: list[av.VideoFrame] = []
    watching: list[asyncio.Task[None]] = []

    async def watch(track: aiortc.MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            assert isinstance(frame, av.VideoFrame)
            pictures.append(frame)

    stock.on("track", lambda track: watching.append(asyncio.create_task(watch(track))))
    await stock.setRemoteDescription(RTCSessionDescription(await publication.offer(), "offer"))
    await stock.setLocalDescription(await stock.createAnswer())
    await publication.accept(stock.localDescription.sdp)
    if encrypted:
        generation = Generation()
        out.use_key(generation.kid, generation.base_key, generation.signing_key)
    await asyncio.to_thread(out.start)
    await until(lambda: out.stats().frames_sent >= 40)
    if encrypted:
        await asyncio.sleep(0.1)
    else:
        # As many as its caller looks for.
        await until(lambda: len(pictures) > 35)
    for task in watching:
        task.cancel()
    await stock.close()
    await publication.close()
    await asyncio.to_thread(out.stop)
    return pictures


async def test_stock_aiortc_makes_nothing_watchable_of_a_sealed_stream() -> None:
    control = await stock_aiortc_watches(encrypted=False)
    assert sum(moving.psnr(picture) > 30 for picture in control) > 30
    sealed = await stock_aiortc_watches(encrypted=True)
    assert sum(moving.psnr(picture) > 20 for picture in sealed) == 0


async def test_dropped_keys_stop_the_stream_at_once() -> None:
    generation = Generation()
    async with meeting() as made:
        made.open(generation)
        made.seal(generation)
        await made.shown(5)
        made.out.drop_keys()
        sent = made.out.stats().frames_sent
        captured = made.out.stats().frames_captured
        await until(lambda: made.out.stats().frames_captured > captured + 10)
        assert made.out.stats().frames_sent == sent


async def test_a_stream_survives_its_peer_connection() -> None:
    generation = Generation()
    made = Meeting()
    await made.connect()
    made.open(generation)
    made.seal(generation)
    await made.shown(5)
    await made.publication.close()
    await made.subscription.close()
    encoded, captured = made.out.stats().frames_encoded, made.out.stats().frames_captured
    await until(lambda: made.out.stats().frames_captured > captured + 5)
    assert made.out.stats().frames_encoded <= encoded + 1, "nobody takes them"
    shown = len(made.kept.pictures)
    made.publication = Publication(made.out, NO_SERVERS)
    made.subscription = Subscription(made.inbound, NO_SERVERS)
    offer = await made.publication.offer()
    await made.publication.accept(await made.subscription.answer(offer))
    await made.shown(shown + 5)
    await made.close()
    assert min(moving.psnr(picture.frame) for picture in made.kept.pictures) > 30


# --- session descriptions -----------------------------------------------------------------------------


async def test_an_offer_has_vp8_alone_with_retransmission_and_asks_no_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(aiortc.RTCIceGatherer, "getDefaultIceServers")
    publication = Publication(
        OutboundStream(MovingSource(), context(), bitrate=1, encrypted=True), NO_SERVERS
    )
    offer = await publication.offer()
    await publication.close()
    assert set(re.findall(r"a=rtpmap:\d+ (\w+)/", offer)) == {"VP8", "rtx"}
    assert "a=sendonly" in offer
    assert set(re.findall(r"typ (\w+)", offer)) == {"host"}


@pytest.mark.parametrize("extra", ["audio", "video", "data"])
async def test_an_offer_of_more_than_one_video_is_refused(extra: str) -> None:
    """Whatever else is offered would be received by aiortc's own decoder."""
    sfu = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sfu.addTransceiver("video", "sendonly")
    if extra == "data":
        sfu.createDataChannel("x")
    else:
        sfu.addTransceiver(extra, "sendonly")
    await sfu.setLocalDescription(await sfu.createOffer())
    inbound = InboundStream(context(), [], encrypted=True)
    subscription = Subscription(inbound, NO_SERVERS)
    with pytest.raises(MediaError) as caught:
        await subscription.answer(sfu.localDescription.sdp)
    assert caught.value.reason == "unexpected-offer"
    assert subscription.state == "closed"
    await sfu.close()
    inbound.close()


@pytest.mark.parametrize("what", ["h264", "cut", "garbage", "empty", "huge", "no-fingerprint", "no-ice"])
async def test_a_bad_offer_is_refused_by_name(what: str) -> None:
    sfu = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sfu.addTransceiver("video", "sendonly")
    await sfu.setLocalDescription(await sfu.createOffer())
    good = sfu.localDescription.sdp
    bad = {
        "h264": re.sub("VP8", "AV1", good),
        "cut": good[: good.index("a=rtpmap") + 12],
        "garbage": "v=0\r\nm=video x y z\r\na=ice-ufrag\r\n",
        "empty": "",
        "huge": good + "a=x\r\n" * 20_000,
        "no-fingerprint": re.sub("a=fingerprint.*\r\n", "", good),
        "no-ice": re.sub("a=ice-.*\r\n", "", good),
    }[what]
    inbound = InboundStream(context(), [], encrypted=True)
    with pytest.raises(MediaError) as caught:
        await Subscription(inbound, NO_SERVERS).answer(bad)
    assert caught.value.reason in ("bad-sdp", "unexpected-offer")
    await sfu.close()
    inbound.close()


async def test_a_bad_answer_is_refused_by_name() -> None:
    publication = Publication(
        OutboundStream(MovingSource(), context(), bitrate=1, encrypted=True), NO_SERVERS
    )
    with pytest.raises(MediaError) as caught:
        await publication.accept("v=0\r\n")
    assert caught.value.reason == "no-offer"
    await publication.offer()
    with pytest.raises(MediaError) as caught:
        await publication.accept("garbage")
    assert caught.value.reason == "bad-sdp"
    with pytest.raises(MediaError) as caught:
        await publication.offer()
    assert caught.value.reason == "connection-used"
    await publication.close()


async def test_bad_ice_servers_are_refused_and_credentials_are_not_shown() -> None:
    settings = IceSettings(turn=(TurnServer("turn:relay.example", "user", "hunter2"),))
    assert "hunter2" not in repr(settings)
    inbound = InboundStream(context(), [], encrypted=True)
    with pytest.raises(MediaError) as caught:
        await Subscription(inbound, IceSettings(stun=("http://nonsense",))).answer("v=0\r\n")
    assert caught.value.reason == "bad-ice-server"
    inbound.close()


# --- the bus ------------------------------------------------------------------------------------------


async def test_the_bus_carries_text_both_ways_and_tells_its_end() -> None:
    sfu = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    theirs = sfu.createDataChannel(BusLink.LABEL)
    echoed: list[str] = []

    @sfu.on("datachannel")
    def _(channel: aiortc.RTCDataChannel) -> None:
        channel.on("message", lambda text: theirs.send(f"echo {text}"))

    await sfu.setLocalDescription(await sfu.createOffer())
    bus = BusLink(NO_SERVERS)
    closed: list[bool] = []
    bus.on_text(echoed.append)
    bus.on_closed(lambda: closed.append(True))
    with pytest.raises(MediaError) as caught:
        bus.send("too early")
    assert caught.value.reason == "bus-closed"
    answer = await bus.answer(sfu.localDescription.sdp)
    await sfu.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await bus.wait_open()
    long = "x" * 15_000
    for text in ("one", "zwei ✓", long):
        bus.send(text)
    await until(lambda: len(echoed) == 3)
    assert echoed == ["echo one", "echo zwei ✓", f"echo {long}"]
    assert closed == []
    await sfu.close()
    await until(lambda: closed == [True])
    with pytest.raises(MediaError):
        bus.send("too late")
    await bus.close()
    assert closed == [True]


async def test_a_bus_that_never_opens_raises_when_it_closes() -> None:
    sfu = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sfu.createDataChannel(BusLink.LABEL)
    await sfu.setLocalDescription(await sfu.createOffer())
    bus = BusLink(NO_SERVERS)
    await bus.answer(sfu.localDescription.sdp)
    waiting = asyncio.create_task(bus.wait_open())
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(MediaError) as caught:
        await waiting
    assert caught.value.reason == "bus-closed"
    await sfu.close()


async def test_a_bus_that_offers_media_is_refused() -> None:
    sfu = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sfu.createDataChannel("x")
    sfu.addTransceiver("video", "sendonly")
    await sfu.setLocalDescription(await sfu.createOffer())
    with pytest.raises(MediaError) as caught:
        await BusLink(NO_SERVERS).answer(sfu.localDescription.sdp)
    assert caught.value.reason == "unexpected-offer"
    await sfu.close()


async def test_dtls_asks_for_no_memory_that_is_written_and_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's sandbox denies it (MemoryDenyWriteExecute=), and cffi's callbacks need it."""

    def denied(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(SSL, "_VerifyHelper", denied)
    meeting = Meeting(encrypted=False)
    await meeting.connect()
    await meeting.close()


# --- the seams ----------------------------------------------------------------------------------------


def test_the_seams_hold_on_the_installed_aiortc() -> None:
    seams.check_seams()


def test_another_aiortc_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc, "__version__", "1.17.0")
    with pytest.raises(MediaError) as caught:
        seams.check_seams()
    assert (caught.value.reason, "1.17.0" in str(caught.value)) == ("aiortc-unsupported", True)


@pytest.mark.parametrize(
    ("module", "name", "member"),
    [(module, name, member) for module, name, members in seams.SEAMS for member in members],
)
def test_each_missing_seam_is_named(
    module: str, name: str, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changed:
        def __init__(self) -> None:
            pass

    monkeypatch.setattr(f"{module}.{name}", Changed)
    with pytest.raises(MediaError) as caught:
        seams.check_seams()
    assert caught.value.reason == "aiortc-unsupported"
    assert f"{module}.{name}" in str(caught.value)
    assert "1.16" in caught.value.hint
    assert not seams._has(Changed, member)
