"""Peers of stock aiortc, none of our media code: a bus link, a publisher of a test picture, a subscriber."""

from __future__ import annotations

import asyncio

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)


def _peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


class StockPublisher:
    """dongled.media.api.Offerer: a moving test picture in VP8."""

    def __init__(self) -> None:
        self.peer = _peer()

    async def offer(self) -> str:
        self.peer.addTrack(VideoStreamTrack())
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def accept(self, answer: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def close(self) -> None:
        await self.peer.close()


class StockSubscriber:
    """dongled.media.api.Answerer: `received` is set with the first decoded picture."""

    def __init__(self) -> None:
        self.peer = _peer()
        self.received = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.peer.on("track", self._on_track)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self.task = asyncio.create_task(self._receive(track))

    async def _receive(self, track: MediaStreamTrack) -> None:
        await track.recv()
        self.received.set()

    async def answer(self, offer: str) -> str:
        await self.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        return self.peer.localDescription.sdp

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
        await self.peer.close()
