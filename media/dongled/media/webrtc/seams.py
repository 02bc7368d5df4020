"""Every place where this room reaches into aiortc 1.16, which has no encoded transform. Nothing else does.

Sending needs two hooks on a sender's instance: key frame requests, which aiortc would hand to an encoder
that is not used here, and the RTCP that its statistics forget. Receiving needs a jitter buffer that hands its
frames to us and none to aiortc's decoder, and a NACK generator that asks for nothing because ours does.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiortc
from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtp import RtpPacket

from dongled.media.errors import MediaError
from dongled.media.jitter import JitterBuffer, ReceivedFrame, RtpPiece
from dongled.media.vp8 import is_key_frame

WANTED = "1.16."

# What is reached into, and how: module, class, then the names in it. A name with parentheses is a method, any
# other is an attribute that __init__ sets.
SEAMS: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("aiortc.rtcrtpsender", "RTCRtpSender", ("_send_keyframe()", "_handle_rtcp_packet()", "_ssrc")),
    (
        "aiortc.rtcrtpreceiver",
        "RTCRtpReceiver",
        (
            "_handle_rtp_packet()",
            "_send_rtcp_pli()",
            "_send_rtcp_nack()",
            "__jitter_buffer",
            "__nack_generator",
        ),
    ),
    ("aiortc.jitterbuffer", "JitterBuffer", ("add()",)),
    ("aiortc.codecs.vpx", "Vp8Encoder", ("pack()",)),
    # See dtls.
    ("aiortc.rtcdtlstransport", "RTCCertificate", ("_create_ssl_context()", "_cert", "_key")),
    ("aiortc", "RTCPeerConnection", ("__certificates",)),
)


def check_seams() -> None:
    """Raises MediaError, ``aiortc-unsupported``, unless this is the aiortc that the seams were cut for."""
    hint = "install aiortc 1.16 (pip install 'aiortc==1.16.*')"
    if not aiortc.__version__.startswith(WANTED):
        raise MediaError("aiortc-unsupported", f"aiortc {aiortc.__version__} is installed", hint)
    for module, name, members in SEAMS:
        owner = getattr(importlib.import_module(module), name, None)
        for member in members:
            if owner is None or not _has(owner, member):
                raise MediaError("aiortc-unsupported", f"{module}.{name} has no {member}", hint)


def _has(owner: type, member: str) -> bool:
    if member.endswith("()"):
        return callable(getattr(owner, member[:-2], None))
    stored = f"_{owner.__name__}{member}" if member.startswith("__") else member
    return stored in vars(owner)["__init__"].__code__.co_names


check_seams()


# --- sending -----------------------------------------------------------------------------------------------


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Have PLI and FIR (RFC 4585, section 6.3.1; RFC 5104, section 4.3.1) call ``callback``."""
    setattr(sender, "_send_keyframe", callback)  # noqa: B010 - a method, which mypy lets nobody assign


def on_rtcp(sender: RTCRtpSender, callback: Callable[[Any], None]) -> None:
    """Show each RTCP packet for this sender to ``callback`` before aiortc handles it."""
    handle = sender._handle_rtcp_packet

    async def observed(packet: Any) -> None:
        callback(packet)
        await handle(packet)

    setattr(sender, "_handle_rtcp_packet", observed)  # noqa: B010 - as above


def media_ssrc(sender: RTCRtpSender) -> int:
    return sender._ssrc


# --- receiving ---------------------------------------------------------------------------------------------


class ReceiverTap:
    """Takes a receiver's frames away from its decoder. Make it before the first packet, on the loop."""

    def __init__(self, receiver: RTCRtpReceiver, deliver: Callable[[ReceivedFrame], None]) -> None:
        self._receiver = receiver
        self._deliver = deliver
        self.buffer = JitterBuffer()
        self._ssrc: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._sending: set[asyncio.Task[None]] = set()
        for name, replacement in (("jitter_buffer", self), ("nack_generator", _AsksForNothing())):
            setattr(receiver, f"_RTCRtpReceiver__{name}", replacement)

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Stands in for aiortc's JitterBuffer.add: asks for no PLI and never returns a frame to decode."""
        self._ssrc = packet.ssrc
        data: bytes = packet._data  # type: ignore[attr-defined] # set by the receiver
        starts = _starts_vp8_frame(packet.payload)
        self.buffer.add(
            RtpPiece(
                packet.sequence_number,
                packet.timestamp,
                bool(packet.marker),
                starts,
                starts and is_key_frame(data),
                data,
            ),
            time.monotonic(),
        )
        self._poll()
        return False, None

    def ask_keyframe(self) -> None:
        """Send a PLI (RFC 4585, section 6.3.1)."""
        if self._ssrc is not None:
            self._send(self._receiver._send_rtcp_pli(self._ssrc))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._sending:
            task.cancel()

    def _poll(self) -> None:
        frames, lost = self.buffer.poll(time.monotonic())
        for frame in frames:
            self._deliver(frame)
        if lost and self._ssrc is not None:
            self._send(self._receiver._send_rtcp_nack(self._ssrc, sorted(lost)))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self.buffer.wake_at()) is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._poll)

    def _send(self, sending: Any) -> None:
        task = self._loop.create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


class _AsksForNothing:
    """Stands in for aiortc's NackGenerator, which asks once for all that is missing at each new loss."""

    def add(self, packet: RtpPacket) -> bool:
        return False


def _starts_vp8_frame(payload: bytes) -> bool:
    """Whether the payload descriptor says start of partition 0 (RFC 7741, section 4.2: S = 1, PID = 0)."""
    return bool(payload) and payload[0] & 0x1F == 0x10


# --- watching a stock receiver -----------------------------------------------------------------------------


def on_rtp_packet(receiver: RTCRtpReceiver, callback: Callable[[bytes, int], None]) -> None:
    """Show each RTP packet's payload and timestamp to ``callback`` before aiortc handles it."""
    handle = receiver._handle_rtp_packet

    async def observed(packet: RtpPacket, arrival_time_ms: int) -> None:
        callback(packet.payload, packet.timestamp)
        await handle(packet, arrival_time_ms)

    setattr(receiver, "_handle_rtp_packet", observed)  # noqa: B010 - as above
