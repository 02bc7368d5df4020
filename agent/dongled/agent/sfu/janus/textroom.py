"""Janus's TextRoom as the bus: a data channel of its own that broadcasts both ways, before any media.

https://janus.conf.meetecho.com/docs/textroom.html, read beside the source of 1.1.2. Over the session:
``exists``, ``create``, and ``setup``, which Janus answers with an offer and we answer with ``ack``. Over
the channel, as JSON text: ``join``, ``message`` (which comes back to its sender too), ``leave``.

VideoRoom's data channels go from a publisher to its subscribers only, and exist only with media.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from dongled.agent.sfu.api import RoomListener, SfuError
from dongled.agent.sfu.bus import MAX_TEXT, BusRefused, Reassembler, chunk
from dongled.agent.sfu.janus import errors, wire
from dongled.agent.sfu.janus.connection import Handle, JanusConnection
from dongled.agent.sfu.janus.errors import TEXTROOM
from dongled.agent.sfu.janus.rooms import find_or_create, join_error, with_pin
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.sfu.janus.transactions import ANSWER_WITHIN, HandleEvent
from dongled.media.api import TextLink
from dongled.media.errors import MediaError

# Seconds for ICE, DTLS and SCTP.
LINK_WITHIN = 10.0
LEAVE_WITHIN = 1.0
MAX_MEMBER = 128

_log = logging.getLogger(__name__)


async def open_link(handle: Handle, link: TextLink) -> None:
    """Open a data channel to the TextRoom plugin, without entering a room. Raises SfuError."""
    offer = (await handle.request({"request": "setup"})).jsep
    if offer is None or offer.type != "offer":
        raise wire.malformed("no offer for the bus")
    try:
        answer = {"type": "answer", "sdp": await link.answer(offer.sdp)}
        await handle.request({"request": "ack"}, answer)
        async with asyncio.timeout(LINK_WITHIN):
            await link.wait_open()
    except MediaError as error:
        raise SfuError(error.reason, str(error), error.hint) from None
    except TimeoutError:
        raise SfuError(
            "bus-unreachable",
            f"the SFU's data channel did not open in {LINK_WITHIN:.0f} s",
            "are the SFU's UDP ports reachable from here, or is a TURN server configured?",
        ) from None


class TextRoom:
    """The bus. ``lost`` is called when the channel closed or the SFU put us out of the room."""

    def __init__(
        self,
        connection: JanusConnection,
        settings: JanusSettings,
        listener: RoomListener,
        link: TextLink,
        lost: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._listener = listener
        self._link = link
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._reassembler = Reassembler()
        self._room: wire.JanusId = settings.room
        self._member = ""
        self._waiting: dict[str, asyncio.Future[wire.Json]] = {}
        self._count = 0
        self._joined = False

    async def open(self, member: str) -> None:
        """Create the room where it is missing and allowed, and enter it as ``member``. Raises SfuError."""
        self._member = member
        handle = await self._connection.attach(TEXTROOM)
        handle.on_event = self._on_event
        self._room = await find_or_create(handle, self._settings)
        self._link.on_text(self._on_text)
        self._link.on_closed(self._on_closed)
        await open_link(handle, self._link)
        await self._join()

    async def _join(self) -> None:
        # Old messages could only be replays.
        body = {"username": self._member, "history": False}
        try:
            await self._request("join", with_pin(body, self._settings))
        except SfuError as error:
            raise join_error(error, self._settings) from None
        self._joined = True

    def broadcast(self, message: bytes) -> None:
        """Send a message of 1 to 65,536 bytes to every other member. Raises BusRefused or SfuError."""
        for packet in chunk(message):
            self._send("message", {"text": packet, "ack": False})

    def expire(self) -> None:
        """Drop unfinished messages that are overdue; to be called about once a second."""
        for source in self._reassembler.expire(self._loop.time()):
            self._listener.bus_refused(source, "chunk-timeout")

    async def leave(self) -> None:
        """Leave the room in a second, and raise nothing that a dead SFU could cause."""
        if self._joined:
            with contextlib.suppress(SfuError, TimeoutError):
                async with asyncio.timeout(LEAVE_WITHIN):
                    await self._request("leave", {})

    async def close(self) -> None:
        """Close the channel."""
        await self._link.close()

    async def _request(self, kind: str, body: dict[str, Any]) -> wire.Json:
        answer: asyncio.Future[wire.Json] = self._loop.create_future()
        transaction = self._send(kind, body, answer)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await answer
        except TimeoutError:
            raise SfuError("sfu-timeout", f"no answer to {kind!r} on the bus") from None
        finally:
            self._waiting.pop(transaction, None)

    def _send(self, kind: str, body: dict[str, Any], answer: asyncio.Future[wire.Json] | None = None) -> str:
        self._count += 1
        transaction = str(self._count)
        if answer is not None:
            self._waiting[transaction] = answer
        message = {"textroom": kind, "transaction": transaction, "room": self._room, **body}
        try:
            self._link.send(json.dumps(message))
        except MediaError as error:
            raise SfuError(error.reason, str(error), error.hint) from None
        return transaction

    # --- what the SFU tells -------------------------------------------------------------------------

    def _on_event(self, event: HandleEvent) -> None:
        if event.kind in ("hangup", "detached"):
            self._on_closed()

    def _on_closed(self) -> None:
        self._joined = False
        self._lost("bus-closed")

    def _on_text(self, text: str) -> None:
        try:
            self._take(wire.read_object(text))
        except SfuError as error:
            _log.debug("ignored from the bus: %s", error)

    def _take(self, message: wire.Json) -> None:
        kind = wire.name(message, "textroom", 32)
        if "transaction" in message:
            self._answered(kind, message)
        elif kind == "message":
            self._received(message)
        elif kind in ("leave", "kicked"):
            self._left(wire.name(message, "username", MAX_MEMBER))
        elif kind == "destroyed":
            self._lost("bus-destroyed")

    def _answered(self, kind: str, message: wire.Json) -> None:
        answer = self._waiting.get(wire.name(message, "transaction", 32))
        refusal = None
        if kind == "error":
            said = self._settings.scrub(wire.string(message, "error", 1024))
            refusal = errors.janus_error(TEXTROOM, wire.integer(message, "error_code"), said)
        if answer is None or answer.done():
            if refusal is not None:
                _log.warning("the bus did not take a message: %s", refusal)
        elif refusal is not None:
            answer.set_exception(refusal)
        else:
            answer.set_result(message)

    def _left(self, member: str) -> None:
        if member == self._member:
            self._on_closed()
            return
        self._reassembler.forget(member)
        self._listener.bus_member_left(member)

    def _received(self, message: wire.Json) -> None:
        source = wire.name(message, "from", MAX_MEMBER)
        if source == self._member:
            return
        try:
            text = wire.string(message, "text", MAX_TEXT)
            whole = self._reassembler.receive(source, text, self._loop.time())
        except (BusRefused, SfuError) as refused:
            self._listener.bus_refused(source, refused.reason)
            return
        if whole is not None:
            self._listener.bus_message(source, whole)
