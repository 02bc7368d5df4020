"""What every peer connection has: ICE servers, a state, and SDP that somebody else wrote."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.rtcicetransport import connection_kwargs

from dongled.media.errors import MediaError
from dongled.media.webrtc.dtls import certify

MAX_SDP = 64 * 1024
"""Characters of SDP that are looked at."""

_CODECS = ("video/vp8", "video/rtx")


@dataclass(frozen=True, slots=True)
class TurnServer:
    """``url`` as in RFC 7065: ``turn:host:3478?transport=udp``."""

    url: str
    username: str
    credential: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IceSettings:
    """STUN servers (URLs as in RFC 7064) and TURN servers. By default none; aiortc uses the first of each."""

    stun: tuple[str, ...] = ()
    turn: tuple[TurnServer, ...] = ()


class Connection:
    """A peer connection that tells its state: ``connecting``, ``connected``, ``failed``, ``closed``."""

    def __init__(self, ice: IceSettings) -> None:
        self._ice = ice
        self._peer: RTCPeerConnection | None = None
        self._on_state: list[Callable[[str], None]] = []

    def on_state(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with each new state, on the event loop."""
        self._on_state.append(callback)

    @property
    def state(self) -> str:
        return "new" if self._peer is None else self._peer.connectionState

    async def close(self) -> None:
        """End the connection; harmless when there is none."""
        if self._peer is not None:
            await self._peer.close()

    def _begin(self) -> RTCPeerConnection:
        if self._peer is not None:
            raise MediaError("connection-used", "a peer connection negotiates once", "make another")
        servers = [RTCIceServer(url) for url in self._ice.stun]
        servers += [RTCIceServer(turn.url, turn.username, turn.credential) for turn in self._ice.turn]
        try:
            connection_kwargs(servers)  # reads the URLs, which the peer connection would do too late
            # Never None: aiortc would ask Google's STUN server.
            peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        except ValueError as error:
            raise MediaError("bad-ice-server", str(error), "check the STUN and TURN URLs") from error
        certify(peer)
        peer.on("connectionstatechange", self._state_changed)
        self._peer = peer
        return peer

    def _state_changed(self) -> None:
        for callback in self._on_state:
            callback(self.state)

    async def _negotiate(self, step: Awaitable[None]) -> None:
        """Do ``step``, in which aiortc reads SDP that somebody else wrote."""
        try:
            await step
        except MediaError:
            raise
        except Exception as error:
            # aiortc's parser raises whatever its first surprise is.
            raise MediaError(
                "bad-sdp",
                f"the session description was refused: {error or type(error).__name__}",
                "the SFU offers no VP8 video, or speaks another dialect",
            ) from error


def prefer_vp8(transceiver: RTCRtpTransceiver) -> None:
    capabilities = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([c for c in capabilities if c.mimeType.lower() in _CODECS])


def description(sdp: str, kind: str) -> RTCSessionDescription:
    if len(sdp) > MAX_SDP:
        raise MediaError("bad-sdp", f"a session description of {len(sdp)} characters")
    # RFC 8122, section 5: without one aiortc would neither connect nor fail
    if "a=fingerprint:" not in sdp:
        raise MediaError("bad-sdp", "a session description without a certificate's fingerprint")
    return RTCSessionDescription(sdp=sdp, type=kind)
