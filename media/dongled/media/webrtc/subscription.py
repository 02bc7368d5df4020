"""A peer connection that answers with one inbound stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from aiortc import RTCPeerConnection

from dongled.media.errors import MediaError
from dongled.media.inbound import InboundStream
from dongled.media.webrtc.connection import Connection, IceSettings, description, prefer_vp8
from dongled.media.webrtc.seams import ReceiverTap


@dataclass(frozen=True, slots=True)
class SubscriptionStats:
    """RTP packets: ``late`` (after they were given up), ``duplicates``, ``given_up``, and
    ``asked_again`` (how often one was asked for a second time or more).
    """

    late: int
    duplicates: int
    given_up: int
    asked_again: int


class Subscription(Connection):
    """Answers an offer of exactly one video, for an inbound stream. aiortc's decoder gets nothing."""

    def __init__(self, stream: InboundStream, ice: IceSettings) -> None:
        super().__init__(ice)
        self._stream = stream
        self._tap: ReceiverTap | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def answer(self, offer: str) -> str:
        """The SDP answer, candidates included. Raises MediaError: ``bad-sdp``, ``unexpected-offer``."""
        peer = self._begin()
        self._loop = asyncio.get_running_loop()
        transceiver = peer.addTransceiver("video", "recvonly")
        prefer_vp8(transceiver)
        self._tap = ReceiverTap(transceiver.receiver, self._stream.receive)
        try:
            await self._negotiate(self._agree(peer, offer))
        except MediaError:
            await self.close()
            raise
        self._stream.attach(self._ask_keyframe)
        return peer.localDescription.sdp

    async def close(self) -> None:
        self._stream.detach(self._ask_keyframe)
        if self._tap is not None:
            self._tap.close()
        await super().close()

    def stats(self) -> SubscriptionStats:
        if self._tap is None:
            return SubscriptionStats(0, 0, 0, 0)
        buffer = self._tap.buffer
        return SubscriptionStats(buffer.late, buffer.duplicates, buffer.given_up, buffer.asked_again)

    async def _agree(self, peer: RTCPeerConnection, offer: str) -> None:
        await peer.setRemoteDescription(description(offer, "offer"))
        # Any further section would get a receiver of its own, with aiortc's decoder behind it.
        if len(peer.getTransceivers()) != 1 or peer.sctp is not None:
            raise MediaError("unexpected-offer", "the SFU offered more than the one video asked for")
        await peer.setLocalDescription(await peer.createAnswer())

    def _ask_keyframe(self) -> None:
        if self._tap is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop closed before the decoder's thread ended
                self._loop.call_soon_threadsafe(self._tap.ask_keyframe)
