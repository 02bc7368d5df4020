"""Somebody on the bus who should not be there, or says what should not be said."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from agent.protocol.bus import SoftToken, point_of
from dongled.agent.clock import boottime
from dongled.agent.policy.api import CheckedCertificate, Policy, Presented
from dongled.agent.protocol.api import (
    Broadcast,
    DeriveWanted,
    Evidence,
    EvidenceWanted,
    OpenWith,
    SignWanted,
    Stream,
)
from dongled.agent.protocol.member import Member
from dongled.agent.sfu.api import Feed
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings
from dongled.media.webrtc import BusLink, IceSettings
from support.authority import TERMINAL


class Intruder:
    """Implements RoomListener on a real bus. ``heard`` has what the others broadcast."""

    def __init__(self, url: str, room: str) -> None:
        settings = JanusSettings(url=url, room=room, create=False, encrypted=True)
        self.room = JanusRoom(settings, self, lambda: BusLink(IceSettings()))
        self.heard: list[bytes] = []
        self.keys: list[OpenWith] = []
        self._member: Member | None = None
        self._token = SoftToken()

    async def join(self) -> None:
        await self.room.join(secrets.token_hex(16))

    async def announce(self, token: SoftToken, chain: Sequence[bytes], policy: Policy) -> None:
        """Take part by the protocol, with a software token and whatever certificates there are."""
        self._token = token
        self._member = Member(
            meeting="demo",
            terminal=TERMINAL,
            identity_chain=chain,
            data_point=point_of(token.data),
            data_chain=[],
            streams=[],
            policy=policy,
            want=lambda peer, stream: True,
        )
        self._member.start(boottime())
        await self._pump()

    async def _pump(self) -> None:
        assert self._member is not None
        while effects := self._member.take_effects():
            for effect in effects:
                match effect:
                    case Broadcast(message):
                        await self.room.broadcast(message)
                    case SignWanted(operation, digest):
                        self._member.signed(operation, self._token.sign(digest), boottime())
                    case DeriveWanted(operation, point):
                        self._member.derived(operation, self._token.derive(point), boottime())
                    case EvidenceWanted(operation):
                        self._member.evidence(operation, Evidence(), boottime())
                    case OpenWith():
                        self.keys.append(effect)

    def bus_message(self, source: str, message: bytes) -> None:
        self.heard.append(message)
        if self._member is not None:
            self._member.receive(source, message, boottime())
            self._pumping = asyncio.ensure_future(self._pump())

    def feed_published(self, feed: Feed) -> None:
        pass

    def feed_gone(self, feed_id: str) -> None:
        pass

    def bus_member_left(self, source: str) -> None:
        pass

    def bus_refused(self, source: str, reason: str) -> None:
        pass

    def connection_lost(self, reason: str) -> None:
        pass


class BelievesAll:
    """A policy for intruders, who do not care whom they talk to."""

    def __init__(self, real: Policy) -> None:
        self._real = real

    def check_identity(self, chain: Sequence[bytes]) -> CheckedCertificate:
        return self._real.check_identity(chain)

    def check_data_key(self, identity: CheckedCertificate, chain: Sequence[bytes], point: bytes) -> str:
        return self._real.check_data_key(identity, chain, point)

    def may_publish(self, identity: CheckedCertificate) -> None:
        pass

    def staple(self, chains: Sequence[Sequence[bytes]], answers: Sequence[bytes]) -> None:
        pass

    def may_view(self, identity: CheckedCertificate, stream: str, presented: Presented) -> str:
        return ""


__all__ = ["BelievesAll", "Intruder", "Stream"]
