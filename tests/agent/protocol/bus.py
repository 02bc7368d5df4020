"""A bus in simulated time, with terminals on it whose tokens are software: the double of two operations."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from dongled.agent.policy.api import CheckedCertificate, Policy, PolicyRefused, PolicyUndecided, Presented
from dongled.agent.protocol import cbor
from dongled.agent.protocol.api import (
    Abandoned,
    Alarm,
    Broadcast,
    DeriveWanted,
    Effect,
    Evidence,
    EvidenceWanted,
    OpenWith,
    Peer,
    PeerJoined,
    PeerLeft,
    Refused,
    SealWith,
    SignWanted,
    StopOpening,
    StopSealing,
    Stream,
)
from dongled.agent.protocol.bans import Bans
from dongled.agent.protocol.member import Member
from dongled.agent.protocol.refusal import Refusal
from dongled.tokens.api import Rank
from dongled.tokens.errors import TokenError
from dongled.tokens.turns import Place, Turns

CAMERA = (Stream("camera", "vp8"),)

Operation = SignWanted | DeriveWanted


def point_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


class SoftToken:
    """The two operations of a token, on keys in memory."""

    def __init__(self) -> None:
        self.identity = ec.generate_private_key(ec.SECP256R1())
        self.data = ec.generate_private_key(ec.SECP256R1())
        self.counts: Counter[str] = Counter()

    def sign(self, digest: bytes) -> bytes:
        self.counts["sign"] += 1
        assert len(digest) == 32
        r, s = decode_dss_signature(self.identity.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32) + s.to_bytes(32)

    def derive(self, point: bytes) -> bytes:
        self.counts["derive"] += 1
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        return self.data.exchange(ec.ECDH(), public)


def certificate(name: str, token: SoftToken) -> bytes:
    """What `AllowAll` takes for a certificate."""
    return cbor.encode(["certificate", name, point_of(token.identity)])


class AllowAll:
    """A policy that allows whatever was not forbidden by name: ``deny[check] = {names}``."""

    def __init__(self) -> None:
        self.deny: dict[str, set[str]] = {}
        self.undecided: set[str] = set()
        self.thinking: set[str] = set()
        self.roles = {"moderator": {"viewer", "moderator"}}
        self.stapled: list[tuple[tuple[tuple[bytes, ...], ...], bytes]] = []
        self.presented: list[Presented] = []

    def _judge(self, check: str, name: str) -> None:
        if name in self.undecided:
            raise PolicyUndecided("pending", f"{name} is being asked about")
        if name in self.deny.get(check, ()):
            raise PolicyRefused(f"denied-{check}", f"{name} is denied")

    def check_identity(self, chain: Sequence[bytes]) -> CheckedCertificate:
        try:
            _, name, point = cbor.decode(chain[0])
        except (Refusal, ValueError, TypeError):
            raise PolicyRefused("certificate-malformed", "not a certificate") from None
        self._judge("identity", name)
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        leaf = hashlib.sha256(chain[0]).digest()
        return CheckedCertificate(
            f"urn:uuid:{name}", name, leaf, public, frozenset(self.roles.get(name, {"viewer"})), "hardware"
        )

    def check_data_key(self, identity: CheckedCertificate, chain: Sequence[bytes], point: bytes) -> str:
        self._judge("data", identity.subject)
        return "hardware" if chain else "software"

    def may_publish(self, identity: CheckedCertificate) -> None:
        self._judge("publish", identity.subject)

    def staple(self, chains: Sequence[Sequence[bytes]], answers: Sequence[bytes]) -> None:
        self.stapled += [(tuple(map(tuple, chains)), answer) for answer in answers]

    def may_view(self, identity: CheckedCertificate, stream: str, presented: Presented) -> str:
        self.presented.append(presented)
        if identity.subject in self.thinking:
            raise PolicyUndecided("pending", f"somebody thinks about {identity.subject}")
        self._judge("view", identity.subject)
        self._judge(f"view-{stream}", identity.subject)
        return "nobody forbade it"


@dataclass(frozen=True)
class Credentials:
    """Certificates of the real kind, and a policy that reads them."""

    terminal: str
    chain: Sequence[bytes]
    data_chain: Sequence[bytes]
    policy: Policy


@dataclass
class Terminal:
    """A member, its token, and what the daemon around it would know."""

    name: str
    member: Member
    token: SoftToken
    policy: AllowAll
    source: str
    turns: Turns[Operation] = field(default_factory=Turns)
    places: dict[int, tuple[Operation, Place]] = field(default_factory=dict)
    token_busy: bool = False
    on_bus: bool = True
    token_works: bool = True
    due: float = float("inf")
    show: Callable[[EvidenceWanted], Evidence | None] = lambda wanted: Evidence()
    seals: dict[str, list[SealWith]] = field(default_factory=dict)
    sealed_at: list[tuple[float, SealWith]] = field(default_factory=list)
    opens: dict[tuple[bytes, str], dict[int, OpenWith]] = field(default_factory=dict)
    ever_opened: list[OpenWith] = field(default_factory=list)
    joined: list[Peer] = field(default_factory=list)
    left: list[tuple[float, bytes, str]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)

    @property
    def session(self) -> bytes:
        return self.member.session

    def forget_operation(self, operation: int) -> None:
        """Nobody waits for it any more; what the token does already, it does."""
        if operation in self.places:
            self.turns.leave(*self.places.pop(operation))

    def reasons(self) -> set[str]:
        return {refused.reason for refused in self.refused}

    def can_watch(self, other: Terminal, stream: str = "camera") -> bool:
        """Does it hold the very keys that ``other`` seals and signs with at this moment?"""
        if not other.seals.get(stream):
            return False
        seal = other.seals[stream][-1]
        mine = self.opens.get((other.session, stream), {}).get(seal.kid)
        signer = Ed25519PrivateKey.from_private_bytes(seal.signing_key).public_key().public_bytes_raw()
        return mine is not None and (mine.base_key, mine.verify_key) == (seal.base_key, signer)

    def sealing(self, stream: str = "camera") -> bytes | None:
        """The base key that this stream is sealed with at this moment; None while nothing is sealed."""
        seals = self.seals.get(stream)
        return seals[-1].base_key if seals else None


class Bus:
    """Delivers broadcasts to all others after ``latency``, as its knobs and ``interfere`` say."""

    def __init__(self, seed: int = 1, latency: float = 0.002, token_latency: float = 0.01) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.latency, self.token_latency = latency, token_latency
        self.loss = self.duplicates = self.jitter = 0.0
        self.terminals: list[Terminal] = []
        self.log: list[tuple[float, Terminal, bytes]] = []
        # (sender, receiver, message) -> the messages that arrive instead
        self.interfere: Callable[[Terminal, Terminal, bytes], list[bytes]] = lambda s, r, m: [m]
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def join(
        self,
        name: str,
        streams: Sequence[Stream] = (),
        *,
        want: Callable[[Peer, Stream], bool] = lambda peer, stream: True,
        token: SoftToken | None = None,
        policy: AllowAll | None = None,
        meeting: str = "meeting",
        data_chain: Sequence[bytes] = (b"data certificate",),
        suite: int = 5,
        start: bool = True,
        credentials: Credentials | None = None,
        bans: Bans | None = None,
    ) -> Terminal:
        token, policy = token or SoftToken(), policy or AllowAll()
        shown = credentials or Credentials(f"urn:uuid:{name}", [certificate(name, token)], data_chain, policy)
        member = Member(
            meeting=meeting,
            terminal=shown.terminal,
            identity_chain=shown.chain,
            data_point=point_of(token.data),
            data_chain=shown.data_chain,
            streams=streams,
            policy=shown.policy,
            suite=suite,
            random=self.rng.randbytes,
            want=want,
            bans=bans,
        )
        terminal = Terminal(name, member, token, policy, f"{name}-{len(self.terminals)}")
        self.terminals.append(terminal)
        if start:
            member.start(self.now)
            self.settle(terminal)
        return terminal

    def vanish(self, terminal: Terminal) -> None:
        """Pull its plug: nobody is told."""
        terminal.on_bus = False

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def deliver(self, receiver: Terminal, message: bytes, source: str = "somebody") -> None:
        """Hand bytes to one terminal, now."""
        receiver.member.receive(source, message, self.now)
        self.settle(receiver)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min((t.due for t in self.terminals if t.on_bus), default=float("inf"))
            if self._queue and self._queue[0][0] <= min(due, end):
                arrives, _, action = heapq.heappop(self._queue)
                self.now = max(self.now, arrives)
                action()
            elif due <= end:
                self.now = max(self.now, due)
                for terminal in self.terminals:
                    if terminal.on_bus and terminal.due <= self.now:
                        terminal.member.tick(self.now)
                        self.settle(terminal)
                        assert terminal.due > self.now, f"{terminal.name} would spin"
            else:
                self.now = end
                return

    def settle(self, terminal: Terminal) -> None:
        while effects := terminal.member.take_effects():
            for effect in effects:
                terminal.effects.append(effect)
                self._do(terminal, effect)
        again = terminal.member.next_tick()
        terminal.due = float("inf") if again is None else again

    def _do(self, terminal: Terminal, effect: Effect) -> None:
        match effect:
            case Broadcast(message):
                self.log.append((self.now, terminal, message))
                self._spread(terminal, message)
            case SignWanted(_, _, kind):
                rank = Rank.BEACON if kind == "presence" else Rank.ANNOUNCEMENT
                self._ask_token(terminal, effect, Place(rank))
            case DeriveWanted(_, _, name):
                self._ask_token(terminal, effect, Place(Rank.GRANT, name))
            case Abandoned(operation):
                terminal.forget_operation(operation)
            case EvidenceWanted(operation):
                evidence = terminal.show(effect)
                if evidence is not None:
                    terminal.member.evidence(operation, evidence, self.now)
            case SealWith():
                terminal.seals.setdefault(effect.stream, []).append(effect)
                terminal.sealed_at.append((self.now, effect))
            case StopSealing():
                terminal.seals.pop(effect.stream, None)
            case OpenWith():
                terminal.opens.setdefault((effect.session, effect.stream.id), {})[effect.kid] = effect
                terminal.ever_opened.append(effect)
            case StopOpening(session, stream, below):
                keys = terminal.opens.get((session, stream), {})
                for kid in [kid for kid in keys if below is None or kid < below]:
                    del keys[kid]
            case PeerJoined(peer):
                terminal.joined.append(peer)
            case PeerLeft(session, reason):
                terminal.left.append((self.now, session, reason))
            case Refused():
                terminal.refused.append(effect)
            case Alarm():
                terminal.alarms.append(effect)
            case _:
                pass

    def _spread(self, sender: Terminal, message: bytes) -> None:
        if not sender.on_bus:
            return
        for receiver in self.terminals:
            if receiver is sender:
                continue
            for arriving in self.interfere(sender, receiver, message):
                copies = 0 if self.rng.random() < self.loss else 1 + (self.rng.random() < self.duplicates)
                for _ in range(copies):
                    delay = self.latency + self.rng.random() * self.jitter
                    self.at(delay, partial(self._arrive, receiver, sender.source, arriving))

    def _arrive(self, receiver: Terminal, source: str, message: bytes) -> None:
        if receiver.on_bus:
            receiver.member.receive(source, message, self.now)
            self.settle(receiver)

    def _ask_token(self, terminal: Terminal, wanted: Operation, place: Place) -> None:
        try:
            terminal.turns.put(wanted, place)
        except TokenError as error:
            terminal.member.token_failed(wanted.operation, error.reason, self.now)
            return
        terminal.places[wanted.operation] = wanted, place
        self._serve(terminal)

    def _serve(self, terminal: Terminal) -> None:
        """One operation at a time, as the broker does."""
        if terminal.token_busy or (wanted := terminal.turns.take()) is None:
            return
        del terminal.places[wanted.operation]
        terminal.token_busy = True
        self.at(self.token_latency, lambda: self._served(terminal, wanted))

    def _served(self, terminal: Terminal, wanted: Operation) -> None:
        terminal.token_busy = False
        match wanted:
            case SignWanted(operation, digest):
                self._sign(terminal, operation, digest)
            case DeriveWanted(operation, point):
                self._derive(terminal, operation, point)
        self._serve(terminal)

    def _sign(self, terminal: Terminal, operation: int, digest: bytes) -> None:
        if terminal.token_works:
            terminal.member.signed(operation, terminal.token.sign(digest), self.now)
        else:
            terminal.member.token_failed(operation, "token-absent", self.now)
        self.settle(terminal)

    def _derive(self, terminal: Terminal, operation: int, point: bytes) -> None:
        if terminal.token_works:
            terminal.member.derived(operation, terminal.token.derive(point), self.now)
        else:
            terminal.member.token_failed(operation, "token-absent", self.now)
        self.settle(terminal)


def kind_of(message: bytes) -> str:
    """The type of a message, as anybody can read it."""
    return str(cbor.decode(message)[1])


def all_watch(terminals: Sequence[Terminal]) -> bool:
    """Does everybody hold the key that each of the others seals with now?"""
    return all(
        a.can_watch(b, stream) for a in terminals for b in terminals if a is not b for stream in b.seals
    )
