"""Two of a meeting who have something to show each other, and an insider who would like to see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from dongled.agent.protocol import cbor, limits, sealing
from dongled.agent.protocol.api import PrivateBegan, PrivateStatus
from dongled.agent.protocol.context import context
from dongled.agent.protocol.private_messages import Opaque, PrivateKey
from dongled.media.keyring import commit_base_key

SCREEN = (("screen", "vp8"),)
BADGE = (("badge", "vp8"),)

E = TypeVar("E")


def of(terminal: Terminal, kind: type[E]) -> list[E]:
    return [effect for effect in terminal.effects if isinstance(effect, kind)]


class Meeting:
    """Two who have something to show each other, and an insider who takes part in the meeting."""

    def __init__(self, seed: int = 1) -> None:
        self.bus = Bus(seed)
        self.doctor = self.bus.join("doctor", CAMERA)
        self.nurse = self.bus.join("nurse", CAMERA)
        self.insider = self.bus.join("insider", CAMERA)
        self.bus.run(9)
        for terminal in self.bus.terminals:
            assert terminal.refused == []

    def invite(self, streams: Sequence[tuple[str, str]] = SCREEN) -> None:
        self.doctor.member.invite(self.nurse.session, streams, self.bus.now)
        self.bus.settle(self.doctor)
        self.bus.run(0.5)

    def accept(self, streams: Sequence[tuple[str, str]] = ()) -> None:
        self.nurse.member.accept(self.doctor.session, streams, self.bus.now)
        self.bus.settle(self.nurse)
        self.bus.run(0.5)

    def begin(self, back: Sequence[tuple[str, str]] = ()) -> None:
        self.invite()
        self.accept(back)
        assert self.private(self.doctor).state == self.private(self.nurse).state == "active"

    def end(self, by: Terminal, whom: Terminal) -> None:
        by.member.end_private(whom.session, self.bus.now)
        self.bus.settle(by)
        self.bus.run(0.5)

    def private(self, terminal: Terminal) -> PrivateStatus:
        (status,) = terminal.member.private(self.bus.now)
        return status

    def stream(self, owner: Terminal) -> str:
        """By which id its private stream goes."""
        return of(owner, PrivateBegan)[-1].shows[0].stream.id

    def sees(self, viewer: Terminal, owner: Terminal) -> bool:
        return viewer.can_watch(owner, self.stream(owner))

    def letters(self, sender: Terminal) -> list[bytes]:
        return [m for _, who, m in self.bus.log if who is sender and kind_of(m) == "private"]

    def forged(
        self,
        by: Terminal,
        to: Terminal,
        kind: str,
        content: bytes,
        *,
        counter: int = 1_000,
        change: Callable[[dict[str, Any]], None] = lambda letter: None,
        claim: Terminal | None = None,
        meeting: str = "meeting",
    ) -> bytes:
        """A letter as ``by`` can make one with its own keys, in ``claim``'s name."""
        sender, receiver = forge.party_of(claim or by), forge.epoch_of(to)
        ctx = context("private", meeting, sender, (5,), receiver.party)
        body = content
        if kind in ("invite", "accept"):
            body = sealing.seal_to_token(sealing.p256_public(receiver.announce.data), content, ctx)
        nonce = next(r.nonce for r in by.member._state.remotes.values() if r.session == to.session)
        letter = {"kind": kind, "echo": nonce, "counter": counter, "body": body}
        change(letter)
        encoded = cbor.encode(letter)
        padded = (len(encoded).to_bytes(2) + encoded).ljust(limits.LETTER, b"\0")
        sealed = sealing.seal(sealing.xwing_public(receiver.announce.xwing), padded, ctx)
        outer = context("private", meeting, sender, (5,))
        return forge.sign("private", Opaque(sealed).encode(), by, outer, claim=sender.announcement)

    def give(self, to: Terminal, message: bytes) -> str | None:
        """Deliver and let the token work; the reason it was refused for, None when it was not."""
        before = len(to.refused)
        self.bus.deliver(to, message)
        self.bus.run(0.1)
        return to.refused[before].reason if len(to.refused) > before else None

    def key(self, by: Terminal, stream: str = "ab" * 16, name: str = "screen", kid: int = 500) -> PrivateKey:
        commit = commit_base_key(bytes(64), kid, by.session, forge.epoch_of(by).announce.signing)
        return PrivateKey(stream, name, "vp8", kid, commit, bytes(64))
