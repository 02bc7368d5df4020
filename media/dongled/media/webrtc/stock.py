"""A stock aiortc subscriber, as anybody has one: what it can watch, the SFU and the network can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from dongled.media.webrtc.seams import on_rtp_packet


class StockSubscription:
    """Hands every frame to aiortc's own decoder; none of our opening, ordering or checking is in the way.

    ``on_payload`` is told each RTP payload as the SFU forwarded it, and its timestamp; ``on_picture`` each
    picture that the decoder made. Both run on the event loop.
    """

    def __init__(
        self, on_payload: Callable[[bytes, int], None], on_picture: Callable[[av.VideoFrame], None]
    ) -> None:
        self._on_payload = on_payload
        self._on_picture = on_picture
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peer.on("track", self._track)
        self._watching: asyncio.Task[None] | None = None

    async def answer(self, offer: str) -> str:
        """The SDP answer, candidates included."""
        await self._peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        for transceiver in self._peer.getTransceivers():
            on_rtp_packet(transceiver.receiver, self._on_payload)
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        return self._peer.localDescription.sdp

    async def close(self) -> None:
        await self._peer.close()
        if self._watching is not None:
            await self._watching

    def _track(self, track: MediaStreamTrack) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch(track))

    async def _watch(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame):
                self._on_picture(frame)
