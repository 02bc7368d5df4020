"""The bus's own framing: messages cut into chunks and put together again. Sans-IO.

A packet, before base64, is one of two things (docs/protocol.md, The bus)::

    0x01 ‖ message                                          1 to 15,360 bytes of message
    0x02 ‖ id (16) ‖ index (u8) ‖ count (u8) ‖ part         a part of a longer message

``id`` is SHA-256(message)[:16], ``count`` 2 to 5, ``index`` from 0; every part but the last has exactly
15,360 bytes, the last 1 to 15,360, and the whole at most 65,536. One message has one encoding only.

Packets travel as text, because the bus may carry nothing else: base64 (RFC 4648, section 4) with its
padding, in its one canonical form. Base85 would save 6 % and is known to fewer languages.

Nothing here authenticates anybody: the id only keeps parts of different messages apart and a message
whole. What bounds the memory a hostile SFU can claim is MAX_HELD over all sources.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from dongled.agent.errors import AgentError

CHUNK = 15 * 1024
MAX_MESSAGE = 64 * 1024
MAX_CHUNKS = -(-MAX_MESSAGE // CHUNK)
MAX_PENDING = 8
# Seconds from a message's first part to its last.
PENDING_LIFE = 10.0
# Bytes of unfinished messages held over all sources together.
MAX_HELD = 8 * 1024 * 1024

_WHOLE = 1
_PART = 2
_ID = 16
_PART_HEADER = 1 + _ID + 2
# What the longest packet has in base64.
MAX_TEXT = 4 * -(-(_PART_HEADER + CHUNK) // 3)


class BusRefused(AgentError):
    """A packet or message was dropped; ``reason`` is distinct for each check."""


def chunk(message: bytes) -> list[str]:
    """Cut ``message`` (1 to 65,536 bytes) into packets, in the order to send them.

    Raises BusRefused ``message-empty`` or ``message-too-large``.
    """
    if not message:
        raise BusRefused("message-empty", "an empty message cannot be sent")
    if len(message) > MAX_MESSAGE:
        raise BusRefused(
            "message-too-large", f"a message of {len(message)} bytes: the bus carries {MAX_MESSAGE} at most"
        )
    if len(message) <= CHUNK:
        return [_text(bytes([_WHOLE]) + message)]
    parts = [message[at : at + CHUNK] for at in range(0, len(message), CHUNK)]
    head = bytes([_PART]) + _id(message)
    return [_text(head + bytes([index, len(parts)]) + part) for index, part in enumerate(parts)]


@dataclass(slots=True)
class _Pending:
    count: int
    expires: float
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(len(part) for part in self.parts.values())


class Reassembler:
    """Puts messages together, for each source apart. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._pending: dict[str, dict[bytes, _Pending]] = {}
        self._held = 0

    def receive(self, source: str, text: str, now: float) -> bytes | None:
        """Take one packet; returns the message when it is whole, None while parts are missing.

        Raises BusRefused: ``packet-too-large``, ``packet-encoding``, ``packet-type``, ``message-empty``,
        ``chunk-malformed``, ``chunk-length``, ``message-too-large``, ``chunk-conflict``,
        ``too-many-pending``, ``bus-memory``, ``message-hash``.
        """
        packet = _packet(text)
        kind, body = packet[0], packet[1:]
        if kind == _WHOLE:
            if not body:
                raise BusRefused("message-empty", "a packet without a message")
            if len(body) > CHUNK:
                raise BusRefused("packet-too-large", "a whole message longer than one chunk")
            return body
        if kind != _PART:
            raise BusRefused("packet-type", f"unknown packet type {kind}")
        return self._part(source, body, now)

    def _part(self, source: str, body: bytes, now: float) -> bytes | None:
        if len(body) <= _ID + 2:
            raise BusRefused("chunk-malformed", "a chunk shorter than its header")
        key, index, count, part = body[:_ID], body[_ID], body[_ID + 1], body[_ID + 2 :]
        if not 2 <= count <= MAX_CHUNKS or index >= count:
            raise BusRefused("chunk-malformed", f"chunk {index} of {count}")
        if len(part) > CHUNK or (index < count - 1 and len(part) != CHUNK):
            raise BusRefused("chunk-length", f"chunk {index} of {count} has {len(part)} bytes")
        if index * CHUNK + len(part) > MAX_MESSAGE:
            raise BusRefused(
                "message-too-large", f"a message of {count} chunks that passes {MAX_MESSAGE} bytes"
            )
        pending = self._admit(source, key, count, len(part), now)
        held = pending.parts.get(index)
        if pending.count != count or held not in (None, part):
            self._drop(source, key)
            raise BusRefused("chunk-conflict", "two chunks contradict each other; their message was dropped")
        if held is None:
            pending.parts[index] = part
            self._held += len(part)
        if len(pending.parts) < count:
            return None
        message = b"".join(pending.parts[at] for at in range(count))
        self._drop(source, key)
        if _id(message) != key:
            raise BusRefused("message-hash", "a message that does not match its id")
        return message

    def _admit(self, source: str, key: bytes, count: int, size: int, now: float) -> _Pending:
        mine = self._pending.get(source, {})
        pending = mine.get(key)
        if pending is None and len(mine) >= MAX_PENDING:
            raise BusRefused("too-many-pending", f"more than {MAX_PENDING} unfinished messages of one source")
        if self._held + size > MAX_HELD:
            raise BusRefused("bus-memory", f"more than {MAX_HELD} bytes of unfinished messages")
        if pending is None:
            pending = _Pending(count, now + PENDING_LIFE)
            self._pending.setdefault(source, mine)[key] = pending
        return pending

    def expire(self, now: float) -> list[str]:
        """Drop what is overdue; returns the source of each dropped message, for ``chunk-timeout``."""
        overdue = [
            (source, key)
            for source, mine in self._pending.items()
            for key, pending in mine.items()
            if now >= pending.expires
        ]
        for source, key in overdue:
            self._drop(source, key)
        return [source for source, _ in overdue]

    def forget(self, source: str) -> None:
        """Drop what a source that left did not finish."""
        for key in list(self._pending.get(source, ())):
            self._drop(source, key)

    def _drop(self, source: str, key: bytes) -> None:
        mine = self._pending[source]
        self._held -= mine.pop(key).size
        if not mine:
            del self._pending[source]


def _id(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()[:_ID]


def _text(packet: bytes) -> str:
    return base64.b64encode(packet).decode("ascii")


def _packet(text: str) -> bytes:
    if len(text) > MAX_TEXT:
        raise BusRefused("packet-too-large", f"a packet of {len(text)} characters")
    try:
        packet = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BusRefused("packet-encoding", "a packet that is not base64") from None
    # The decoder tolerates stray bits behind the last byte: one packet has one spelling only.
    if not packet or _text(packet) != text:
        raise BusRefused("packet-encoding", "a packet that is not canonical base64")
    return packet
