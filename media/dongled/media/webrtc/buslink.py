"""A peer connection that answers with a data channel, for the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiortc import RTCDataChannel, RTCPeerConnection

from dongled.media.errors import MediaError
from dongled.media.webrtc.connection import Connection, IceSettings, description

MAX_BUFFERED = 1024 * 1024
"""Bytes that may wait in a data channel."""


class BusLink(Connection):
    """Answers Janus's offer of data channels and carries text both ways.

    Janus writes to the channel of this label, and hears nobody who has not opened one.
    """

    LABEL = "JanusDataChannel"

    def __init__(self, ice: IceSettings) -> None:
        super().__init__(ice)
        self._channel: RTCDataChannel | None = None
        self._opened: asyncio.Future[None] | None = None
        self._on_text: Callable[[str], None] = lambda text: None
        self._on_closed: Callable[[], None] = lambda: None
        self._closed = False

    async def answer(self, offer: str) -> str:
        """The SDP answer, candidates included. Raises MediaError: ``bad-sdp``, ``unexpected-offer``."""
        peer = self._begin()
        self._opened = asyncio.get_running_loop().create_future()
        self._channel = peer.createDataChannel(self.LABEL)
        self._listen(self._channel)
        self._channel.on("open", self._channel_opened)
        peer.on("datachannel", self._listen)
        self.on_state(lambda state: self._channel_closed() if state in ("failed", "closed") else None)
        try:
            await self._negotiate(self._agree(peer, offer))
        except MediaError:
            await self.close()
            raise
        return peer.localDescription.sdp

    async def wait_open(self) -> None:
        """Until the channel carries text. Raises MediaError, ``bus-closed``."""
        if self._opened is None:
            raise MediaError("no-offer", "a data channel needs an offer first")
        await asyncio.shield(self._opened)

    def send(self, text: str) -> None:
        """Raises MediaError: ``bus-closed``, ``bus-congested``."""
        channel = self._channel
        if channel is None or channel.readyState != "open":
            raise MediaError(
                "bus-closed", "the data channel to the SFU is not open", "join the meeting again"
            )
        if channel.bufferedAmount > MAX_BUFFERED:
            raise MediaError("bus-congested", "the SFU takes no more data", "check the network")
        channel.send(text)

    def on_text(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with each text that came, on the event loop."""
        self._on_text = callback

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the channel is gone."""
        self._on_closed = callback

    async def close(self) -> None:
        await super().close()
        self._channel_closed()

    async def _agree(self, peer: RTCPeerConnection, offer: str) -> None:
        await peer.setRemoteDescription(description(offer, "offer"))
        if peer.getTransceivers():
            raise MediaError("unexpected-offer", "the SFU offered media on the bus")
        await peer.setLocalDescription(await peer.createAnswer())

    def _listen(self, channel: RTCDataChannel) -> None:
        channel.on("message", self._received)
        channel.on("close", self._channel_closed)

    def _received(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._on_text(message)

    def _channel_opened(self) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def _channel_closed(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(MediaError("bus-closed", "the data channel to the SFU did not open"))
            self._opened.exception()  # nobody has to be waiting
        self._on_closed()
