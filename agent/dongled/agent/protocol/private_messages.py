"""Private sessions' messages: what a letter holds, and its one size (docs/protocol.md, Private sessions)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dongled.agent.protocol import cbor, limits
from dongled.agent.protocol.fields import Reader
from dongled.media.rules import RULES

# Drawn at random, it says nothing of the stream that it names.
STREAM_ID = re.compile(r"[0-9a-f]{32}")
# As it is called at home: it ends up in the invited's status and file names.
STREAM_NAME = re.compile(r"[a-z0-9-]{1,32}")

SECRET = frozenset({"invite", "accept"})
KINDS = SECRET | {"end", "ack"}
END_REASONS = frozenset({"ended", "declined", "refused"})


@dataclass(frozen=True, slots=True)
class Opaque:
    """The outside of every letter: neither whom it is for nor what it is."""

    sealed: bytes

    def encode(self) -> bytes:
        return cbor.encode({"sealed": self.sealed})

    @staticmethod
    def parse(payload: bytes) -> Opaque:
        read = Reader("private")
        return Opaque(read.octets(read.map(payload, {"sealed"})["sealed"], "sealed", limits.LETTER_SEALED))


@dataclass(frozen=True, slots=True)
class Letter:
    """The inside of a letter. ``body`` is sealed once more, to the token, where ``kind`` is in ``SECRET``."""

    kind: str
    echo: bytes
    counter: int
    body: bytes

    def encode(self) -> bytes:
        """Always ``limits.LETTER`` bytes."""
        letter = cbor.encode(
            {"kind": self.kind, "echo": self.echo, "counter": self.counter, "body": self.body}
        )
        padded = len(letter).to_bytes(2) + letter
        assert len(padded) <= limits.LETTER, "every letter's content has its limits"
        return padded.ljust(limits.LETTER, b"\0")

    @staticmethod
    def parse(plaintext: bytes) -> Letter:
        read = Reader("letter")
        size = int.from_bytes(plaintext[:2])
        letter, padding = plaintext[2 : 2 + size], plaintext[2 + size :]
        if len(plaintext) != limits.LETTER or len(letter) != size or padding.strip(b"\0"):
            raise read.fail("padding")
        v = read.map(letter, {*Letter.__dataclass_fields__})
        kind = read.text(v["kind"], "kind", 16)
        if kind not in KINDS:
            raise read.fail("kind")
        return Letter(
            kind,
            read.octets(v["echo"], "echo", limits.NONCE),
            read.uint(v["counter"], "counter", 1),
            read.blob(v["body"], "body", limits.LETTER),
        )


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private stream and its generation. ``stream`` names it in the meeting, ``name`` at its owner's."""

    stream: str
    name: str
    codec: str
    kid: int
    commit: bytes
    base_key: bytes = field(repr=False)

    @property
    def same(self) -> tuple[str, str, str]:
        """What may not change while it is shown."""
        return self.stream, self.name, self.codec


def _encode_keys(keys: tuple[PrivateKey, ...]) -> list[list[str | int | bytes]]:
    return [[k.stream, k.name, k.codec, k.kid, k.commit, k.base_key] for k in keys]


def _keys(read: Reader, value: object, base_key_size: int, least: int) -> tuple[PrivateKey, ...]:
    keys = []
    for item in read.items(value, "streams", limits.PRIVATE_STREAMS, least):
        row = read.row(item, "streams", 6)
        stream, name = read.text(row[0], "stream id", 32), read.text(row[1], "stream name", 32)
        codec = read.text(row[2], "codec", 32)
        if not STREAM_ID.fullmatch(stream):
            raise read.fail("stream id")
        if not STREAM_NAME.fullmatch(name):
            raise read.fail("stream name")
        if codec not in RULES:
            raise read.fail("codec")
        keys.append(
            PrivateKey(
                stream,
                name,
                codec,
                read.uint(row[3], "kid"),
                read.octets(row[4], "commit", limits.HASH),
                read.octets(row[5], "base key", base_key_size),
            )
        )
    read.distinct([key.stream for key in keys], "streams")
    read.distinct([key.name for key in keys], "streams")
    return tuple(keys)


@dataclass(frozen=True, slots=True)
class Invite:
    """Come and see these. ``id`` is the private session's, ``lifetime`` seconds from receipt to accept it."""

    id: bytes
    streams: tuple[PrivateKey, ...]
    lifetime: int

    def encode(self) -> bytes:
        return cbor.encode({"id": self.id, "streams": _encode_keys(self.streams), "lifetime": self.lifetime})

    @staticmethod
    def parse(content: bytes, base_key_size: int) -> Invite:
        read = Reader("invite")
        v = read.map(content, {*Invite.__dataclass_fields__})
        lifetime = read.uint(v["lifetime"], "lifetime", 1)
        if lifetime > limits.INVITE_MOST:
            raise read.fail("lifetime")
        return Invite(
            read.octets(v["id"], "id", limits.SESSION),
            _keys(read, v["streams"], base_key_size, 1),
            lifetime,
        )


@dataclass(frozen=True, slots=True)
class Accept:
    """Yes, and these in return, if any. ``invite`` is SHA-256 of the content of the invite last taken."""

    id: bytes
    invite: bytes
    streams: tuple[PrivateKey, ...]

    def encode(self) -> bytes:
        return cbor.encode({"id": self.id, "invite": self.invite, "streams": _encode_keys(self.streams)})

    @staticmethod
    def parse(content: bytes, base_key_size: int) -> Accept:
        read = Reader("accept")
        v = read.map(content, {*Accept.__dataclass_fields__})
        return Accept(
            read.octets(v["id"], "id", limits.SESSION),
            read.octets(v["invite"], "invite", limits.HASH),
            _keys(read, v["streams"], base_key_size, 0),
        )


@dataclass(frozen=True, slots=True)
class End:
    """It is over, or will not be."""

    id: bytes
    reason: str

    def encode(self) -> bytes:
        return cbor.encode({"id": self.id, "reason": self.reason})

    @staticmethod
    def parse(content: bytes) -> End:
        read = Reader("end")
        v = read.map(content, {*End.__dataclass_fields__})
        reason = read.text(v["reason"], "reason", 16)
        if reason not in END_REASONS:
            raise read.fail("reason")
        return End(read.octets(v["id"], "id", limits.SESSION), reason)


@dataclass(frozen=True, slots=True)
class Ack:
    """The letter with this counter was taken."""

    of: int

    def encode(self) -> bytes:
        return cbor.encode({"of": self.of})

    @staticmethod
    def parse(content: bytes) -> Ack:
        read = Reader("ack")
        return Ack(read.uint(read.map(content, {"of"})["of"], "of", 1))
