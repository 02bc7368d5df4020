"""The messages' payloads: frozen, strictly parsed, encoded in one way (docs/protocol.md, Messages)."""

from __future__ import annotations

from dataclasses import dataclass, field

from dongled.agent.protocol import cbor, evidence, limits
from dongled.agent.protocol.api import Evidence, Stream
from dongled.agent.protocol.fields import Reader


@dataclass(frozen=True, slots=True)
class Announce:
    """Who I am in this meeting, with which keys. ``previous`` is empty in a session's first epoch."""

    meeting: str
    terminal: str
    leaf: bytes
    session: bytes
    epoch: int
    previous: bytes
    data: bytes
    data_chain: tuple[bytes, ...]
    xwing: bytes
    signing: bytes
    streams: tuple[Stream, ...]
    suites: tuple[int, ...]
    lifetime: int

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "meeting": self.meeting,
                "terminal": self.terminal,
                "leaf": self.leaf,
                "session": self.session,
                "epoch": self.epoch,
                "previous": self.previous,
                "data": self.data,
                "data_chain": list(self.data_chain),
                "xwing": self.xwing,
                "signing": self.signing,
                "streams": [[stream.id, stream.codec] for stream in self.streams],
                "suites": list(self.suites),
                "lifetime": self.lifetime,
            }
        )

    @staticmethod
    def parse(payload: bytes) -> Announce:
        read = Reader("announce")
        names = {*Announce.__dataclass_fields__}
        v = read.map(payload, names)
        streams = []
        for item in read.items(v["streams"], "streams", limits.STREAMS):
            row = read.row(item, "streams", 2)
            streams.append(Stream(read.stream(row[0], "stream id"), read.text(row[1], "codec", 32)))
        read.distinct([stream.id for stream in streams], "streams")
        suites = tuple(read.uint(s, "suites") for s in read.items(v["suites"], "suites", 1, 1))
        if suites[0] not in limits.BASE_KEY:
            raise read.fail("suites")
        epoch = read.uint(v["epoch"], "epoch", 1)
        return Announce(
            meeting=read.text(v["meeting"], "meeting"),
            terminal=read.text(v["terminal"], "terminal"),
            leaf=read.octets(v["leaf"], "leaf", limits.HASH),
            session=read.octets(v["session"], "session", limits.SESSION),
            epoch=epoch,
            previous=read.octets(v["previous"], "previous", 0 if epoch == 1 else limits.HASH),
            data=read.octets(v["data"], "data", limits.POINT),
            data_chain=tuple(
                read.blob(item, "data_chain", limits.CERTIFICATE)
                for item in read.items(v["data_chain"], "data_chain", limits.CHAIN)
            ),
            xwing=read.octets(v["xwing"], "xwing", limits.XWING_PUBLIC),
            signing=read.octets(v["signing"], "signing", 32),
            streams=tuple(streams),
            suites=suites,
            lifetime=read.uint(v["lifetime"], "lifetime"),
        )


@dataclass(frozen=True, slots=True)
class Welcome:
    """A nonce for a newcomer. ``to`` is the hash of the announcement that it answers."""

    to: bytes
    nonce: bytes

    def encode(self) -> bytes:
        return cbor.encode({"to": self.to, "nonce": self.nonce})

    @staticmethod
    def parse(payload: bytes) -> Welcome:
        read = Reader("welcome")
        v = read.map(payload, {"to", "nonce"})
        return Welcome(
            read.octets(v["to"], "to", limits.HASH), read.octets(v["nonce"], "nonce", limits.NONCE)
        )


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream is: the generation in use, its counter, and the generation's commitment."""

    stream: str
    kid: int
    ctr: int
    commit: bytes


@dataclass(frozen=True, slots=True)
class Presence:
    """The beacon. ``echo`` pairs a session with the latest nonce heard from it."""

    leaf: bytes
    session: bytes
    epoch: int
    counter: int
    nonce: bytes
    echo: tuple[tuple[bytes, bytes], ...]
    roster: bytes
    streams: tuple[Position, ...]

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "leaf": self.leaf,
                "session": self.session,
                "epoch": self.epoch,
                "counter": self.counter,
                "nonce": self.nonce,
                "echo": [list(pair) for pair in self.echo],
                "roster": self.roster,
                "streams": [[p.stream, p.kid, p.ctr, p.commit] for p in self.streams],
            }
        )

    @staticmethod
    def parse(payload: bytes) -> Presence:
        read = Reader("presence")
        v = read.map(payload, {*Presence.__dataclass_fields__})
        echo = []
        for item in read.items(v["echo"], "echo", limits.PEERS):
            row = read.row(item, "echo", 2)
            echo.append(
                (read.octets(row[0], "echo", limits.SESSION), read.octets(row[1], "echo", limits.NONCE))
            )
        read.distinct([session for session, _ in echo], "echo")
        streams = []
        for item in read.items(v["streams"], "streams", limits.BEACON_STREAMS):
            row = read.row(item, "streams", 4)
            streams.append(
                Position(
                    read.stream(row[0], "stream id"),
                    read.uint(row[1], "kid"),
                    read.uint(row[2], "ctr"),
                    read.octets(row[3], "commit", limits.HASH),
                )
            )
        read.distinct([position.stream for position in streams], "streams")
        return Presence(
            leaf=read.octets(v["leaf"], "leaf", limits.HASH),
            session=read.octets(v["session"], "session", limits.SESSION),
            epoch=read.uint(v["epoch"], "epoch", 1),
            counter=read.uint(v["counter"], "counter"),
            nonce=read.octets(v["nonce"], "nonce", limits.NONCE),
            echo=tuple(echo),
            roster=read.octets(v["roster"], "roster", limits.HASH),
            streams=tuple(streams),
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """The outside of a request and of a refuse: for whom, and what only they open."""

    to: bytes
    sealed: bytes

    def encode(self) -> bytes:
        return cbor.encode({"to": self.to, "sealed": self.sealed})

    @staticmethod
    def parse(kind: str, payload: bytes) -> Sealed:
        read = Reader(kind)
        v = read.map(payload, {"to", "sealed"})
        return Sealed(read.octets(v["to"], "to", limits.HASH), read.blob(v["sealed"], "sealed", 32_768))


@dataclass(frozen=True, slots=True)
class Request:
    """The inside of a request. ``key_seq`` is what is held of the publisher's keys, 0 for nothing."""

    streams: tuple[str, ...]
    echo: bytes
    nonce: bytes
    counter: int
    key_seq: int
    evidence: Evidence = field(default_factory=Evidence)

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "streams": list(self.streams),
                "echo": self.echo,
                "nonce": self.nonce,
                "counter": self.counter,
                "key_seq": self.key_seq,
                "evidence": evidence.to_map(self.evidence),
            }
        )

    @staticmethod
    def parse(payload: bytes) -> Request:
        read = Reader("request")
        v = read.map(payload, {*Request.__dataclass_fields__})
        streams = [read.stream(s, "streams") for s in read.items(v["streams"], "streams", limits.STREAMS, 1)]
        read.distinct(streams, "streams")
        return Request(
            streams=tuple(streams),
            echo=read.octets(v["echo"], "echo", limits.NONCE),
            nonce=read.octets(v["nonce"], "nonce", limits.NONCE),
            counter=read.uint(v["counter"], "counter", 1),
            key_seq=read.uint(v["key_seq"], "key_seq"),
            evidence=evidence.from_map(v["evidence"], read),
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """The outside of a grant: ``nonce`` echoes the request's, ``sealed`` is sealed twice."""

    to: bytes
    nonce: bytes
    sealed: bytes

    def encode(self) -> bytes:
        return cbor.encode({"to": self.to, "nonce": self.nonce, "sealed": self.sealed})

    @staticmethod
    def parse(payload: bytes) -> Grant:
        read = Reader("grant")
        v = read.map(payload, {"to", "nonce", "sealed"})
        return Grant(
            read.octets(v["to"], "to", limits.HASH),
            read.octets(v["nonce"], "nonce", limits.NONCE),
            read.blob(v["sealed"], "sealed", 32_768),
        )


@dataclass(frozen=True, slots=True)
class GrantedKey:
    """A generation of a stream. ``signing`` verifies its frames: S of the epoch in which it was made."""

    stream: str
    kid: int
    commit: bytes
    base_key: bytes = field(repr=False)
    signing: bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """The inside of a grant. ``lifetime`` is in seconds from receipt, 0 while the epoch lasts."""

    keys: tuple[GrantedKey, ...]
    link: bytes = field(repr=False)
    key_seq: int
    roster: bytes
    lifetime: int

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "keys": [[key.stream, key.kid, key.commit, key.base_key, key.signing] for key in self.keys],
                "link": self.link,
                "key_seq": self.key_seq,
                "roster": self.roster,
                "lifetime": self.lifetime,
            }
        )

    @staticmethod
    def parse(payload: bytes, base_key_size: int) -> Keys:
        read = Reader("keys")
        v = read.map(payload, {*Keys.__dataclass_fields__})
        keys = []
        for item in read.items(v["keys"], "keys", limits.STREAMS, 1):
            row = read.row(item, "keys", 5)
            keys.append(
                GrantedKey(
                    read.stream(row[0], "stream id"),
                    read.uint(row[1], "kid"),
                    read.octets(row[2], "commit", limits.HASH),
                    read.octets(row[3], "base key", base_key_size),
                    read.octets(row[4], "signing", 32),
                )
            )
        read.distinct([key.stream for key in keys], "keys")
        return Keys(
            keys=tuple(keys),
            link=read.octets(v["link"], "link", 32),
            key_seq=read.uint(v["key_seq"], "key_seq", 1),
            roster=read.octets(v["roster"], "roster", limits.HASH),
            lifetime=read.uint(v["lifetime"], "lifetime"),
        )


@dataclass(frozen=True, slots=True)
class Refuse:
    """The inside of a refuse: the request's nonce and one coarse reason."""

    nonce: bytes
    reason: str

    def encode(self) -> bytes:
        return cbor.encode({"nonce": self.nonce, "reason": self.reason})

    @staticmethod
    def parse(payload: bytes) -> Refuse:
        read = Reader("refuse")
        v = read.map(payload, {"nonce", "reason"})
        reason = read.text(v["reason"], "reason", 32)
        if reason not in ("policy", "unknown-stream", "full", "pending"):
            raise read.fail("reason")
        return Refuse(read.octets(v["nonce"], "nonce", limits.NONCE), reason)


@dataclass(frozen=True, slots=True)
class NewKey:
    """One stream's fresh generation in a rekey: the base key sealed under a KEK of its own."""

    stream: str
    kid: int
    commit: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Wrapped:
    """For one holder: its chain's position, and the KEKs of the streams it may have, wrapped."""

    session: bytes
    number: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Rekey:
    key_seq: int
    keys: tuple[NewKey, ...]
    links: tuple[Wrapped, ...]

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "key_seq": self.key_seq,
                "keys": [[key.stream, key.kid, key.commit, key.sealed] for key in self.keys],
                "links": [[link.session, link.number, link.sealed] for link in self.links],
            }
        )

    @staticmethod
    def parse(payload: bytes) -> Rekey:
        read = Reader("rekey")
        v = read.map(payload, {"key_seq", "keys", "links"})
        keys = []
        for item in read.items(v["keys"], "keys", limits.STREAMS, 1):
            row = read.row(item, "keys", 4)
            keys.append(
                NewKey(
                    read.stream(row[0], "stream id"),
                    read.uint(row[1], "kid"),
                    read.octets(row[2], "commit", limits.HASH),
                    read.octets(row[3], "sealed", *(n + limits.AEAD_TAG for n in limits.BASE_KEY.values())),
                )
            )
        read.distinct([key.stream for key in keys], "keys")
        links = []
        for item in read.items(v["links"], "links", limits.PEERS, 1):
            row = read.row(item, "links", 3)
            links.append(
                Wrapped(
                    read.octets(row[0], "links", limits.SESSION),
                    read.uint(row[1], "links"),
                    read.blob(row[2], "links", 1_024),
                )
            )
        read.distinct([link.session for link in links], "links")
        return Rekey(read.uint(v["key_seq"], "key_seq", 1), tuple(keys), tuple(links))

    @staticmethod
    def encode_keks(keks: list[bytes | None]) -> bytes:
        """What a link wraps: a KEK for each of ``keys`` in turn, None where the holder may not have it."""
        return cbor.encode(keks)

    @staticmethod
    def parse_keks(plaintext: bytes, count: int) -> list[bytes | None]:
        read = Reader("rekey")
        keks = read.row(cbor.decode(plaintext), "keks", count)
        return [None if kek is None else read.octets(kek, "keks", 32) for kek in keks]


@dataclass(frozen=True, slots=True)
class Leave:
    counter: int

    def encode(self) -> bytes:
        return cbor.encode({"counter": self.counter})

    @staticmethod
    def parse(payload: bytes) -> Leave:
        read = Reader("leave")
        return Leave(read.uint(read.map(payload, {"counter"})["counter"], "counter"))


@dataclass(frozen=True, slots=True)
class Expel:
    """A moderator's order. ``terminal``, ``target`` (a session) and ``target_leaf`` say whom it expels.

    ``lifetime`` is in seconds from receipt, ``reason`` one line for people, perhaps empty.
    """

    leaf: bytes
    session: bytes
    epoch: int
    counter: int
    terminal: str
    target: bytes
    target_leaf: bytes
    reason: str
    lifetime: int

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "leaf": self.leaf,
                "session": self.session,
                "epoch": self.epoch,
                "counter": self.counter,
                "target": [self.terminal, self.target, self.target_leaf],
                "reason": self.reason,
                "lifetime": self.lifetime,
            }
        )

    @staticmethod
    def parse(payload: bytes) -> Expel:
        read = Reader("expel")
        v = read.map(payload, {"leaf", "session", "epoch", "counter", "target", "reason", "lifetime"})
        target = read.row(v["target"], "target", 3)
        reason = v["reason"]
        if reason != "":
            reason = read.text(reason, "reason", limits.EXPEL_REASON)
        if not reason.isprintable():
            raise read.fail("reason")
        lifetime = read.uint(v["lifetime"], "lifetime", 1)
        if lifetime > limits.EXPEL_MOST:
            raise read.fail("lifetime")
        return Expel(
            leaf=read.octets(v["leaf"], "leaf", limits.HASH),
            session=read.octets(v["session"], "session", limits.SESSION),
            epoch=read.uint(v["epoch"], "epoch", 1),
            counter=read.uint(v["counter"], "counter", 1),
            terminal=read.text(target[0], "target"),
            target=read.octets(target[1], "target", limits.SESSION),
            target_leaf=read.octets(target[2], "target", limits.HASH),
            reason=reason,
            lifetime=lifetime,
        )
