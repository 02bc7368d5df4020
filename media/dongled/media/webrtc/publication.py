"""A peer connection that offers one outbound stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import av
from aiortc import MediaStreamTrack, RTCRtpSender
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RTCP_PSFB_APP, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket, unpack_remb_fci
from aiortc.stats import RTCRemoteInboundRtpStreamStats

from dongled.media.encoder import TIME_BASE
from dongled.media.errors import MediaError
from dongled.media.outbound import OutboundStream
from dongled.media.webrtc.connection import Connection, IceSettings, description, prefer_vp8
from dongled.media.webrtc.seams import media_ssrc, on_keyframe_request, on_rtcp


@dataclass(frozen=True, slots=True)
class PublicationStats:
    """What the SFU reports: ``rtt`` in seconds and ``fraction_lost`` (0 to 1) by its last receiver report.

    ``nacked`` counts packets that it asked for again, ``keyframe_requests`` PLIs and FIRs, ``remb`` is the
    bitrate (bit/s) that it allows. None where it said nothing yet.
    """

    rtt: float | None
    fraction_lost: float | None
    nacked: int
    keyframe_requests: int
    remb: int | None


class Publication(Connection):
    """Offers VP8 alone. The stream encodes from when the connection is up until it closes."""

    def __init__(self, stream: OutboundStream, ice: IceSettings) -> None:
        super().__init__(ice)
        self._stream = stream
        self._sender: RTCRtpSender | None = None
        self._nacked = 0
        self._keyframe_requests = 0
        self._remb: int | None = None

    async def offer(self) -> str:
        """The SDP offer, candidates included. Raises MediaError."""
        peer = self._begin()
        transceiver = peer.addTransceiver(_StreamTrack(self._stream), "sendonly")
        prefer_vp8(transceiver)
        self._sender = transceiver.sender
        on_keyframe_request(self._sender, self._keyframe_requested)
        on_rtcp(self._sender, self._rtcp)
        await peer.setLocalDescription(await peer.createOffer())
        return peer.localDescription.sdp

    async def accept(self, answer: str) -> None:
        """Take the SDP answer and connect. Raises MediaError, ``bad-sdp``."""
        if self._peer is None:
            raise MediaError("no-offer", "an answer without an offer")
        await self._negotiate(self._peer.setRemoteDescription(description(answer, "answer")))

    async def stats(self) -> PublicationStats:
        rtt = lost = None
        if self._sender is not None:
            for report in (await self._sender.getStats()).values():
                if isinstance(report, RTCRemoteInboundRtpStreamStats):
                    rtt, lost = report.roundTripTime, report.fractionLost / 256
        return PublicationStats(rtt, lost, self._nacked, self._keyframe_requests, self._remb)

    def _keyframe_requested(self) -> None:
        self._keyframe_requests += 1
        self._stream.force_keyframe()

    def _rtcp(self, packet: object) -> None:
        if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            self._nacked += len(packet.lost)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP and self._sender is not None:
            with contextlib.suppress(ValueError):
                bitrate, ssrcs = unpack_remb_fci(packet.fci)
                if media_ssrc(self._sender) in ssrcs:
                    self._remb = bitrate


class _StreamTrack(MediaStreamTrack):
    """Hands a stream's frames to aiortc as encoded packets, which it only packetizes."""

    kind = "video"

    def __init__(self, stream: OutboundStream) -> None:
        super().__init__()
        self._stream = stream
        self._home = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._attached = False

    async def recv(self) -> av.Packet[Any]:
        if self.readyState != "live":
            raise MediaStreamError
        if not self._attached:
            self._attached = True
            self._stream.attach(self._wake)
        while (frame := self._stream.take()) is None:
            self._ready.clear()
            await self._ready.wait()
        packet = av.Packet(frame.data)
        packet.pts = frame.timestamp
        packet.time_base = TIME_BASE
        return packet

    def stop(self) -> None:
        super().stop()
        self._stream.detach(self._wake)

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed before the encoder's thread ended
            self._home.call_soon_threadsafe(self._ready.set)
