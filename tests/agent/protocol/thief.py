"""A thief of memory: everything that a terminal holds at one moment, and what of the bus that opens."""

from __future__ import annotations

import gc
import hashlib
import types
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.protocol.bus import Bus, Terminal
from dongled.agent.protocol import cbor, cose
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.links import Link, expand, unwrap
from dongled.agent.protocol.messages import Announce, Rekey, Sealed
from dongled.agent.protocol.publisher import key_aad, link_aad
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.sealing import XWingKey


def memory(terminal: Terminal) -> Iterator[object]:
    """Every object that the machine reaches, private and closed-over ones too; never the token."""
    seen, waiting = set(), [terminal.member]
    while waiting:
        thing: object = waiting.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, Terminal, Bus)):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, types.FunctionType):
            waiting += [cell.cell_contents for cell in thing.__closure__ or ()]
        else:
            waiting += gc.get_referents(thing)


class Thief:
    """What was in a terminal's memory, its media's keys included, when this was made."""

    def __init__(self, terminal: Terminal) -> None:
        things = list(memory(terminal))
        self.sealing = [thing for thing in things if isinstance(thing, XWingKey)]
        self.signing = [thing.private_bytes_raw() for thing in things if isinstance(thing, Ed25519PrivateKey)]
        self.secrets = {thing for thing in things if isinstance(thing, bytes) and len(thing) in (32, 64)}
        for seals in terminal.seals.values():
            self.secrets.add(seals[-1].base_key)
            self.signing.append(seals[-1].signing_key)
        for keys in terminal.opens.values():
            self.secrets |= {key.base_key for key in keys.values()}

    def rekeys(self, bus: Bus) -> set[bytes]:
        """Every base key that the stolen links yield, now and further down their chains."""
        got = {secret for secret in self.secrets if len(secret) == 64}
        chains = {secret for secret in self.secrets if len(secret) == 32}
        for _ in range(8):
            chains |= {expand(chain, b"dongled/1 link chain") for chain in chains}
        for party, signed in _signed(bus, "rekey"):
            ctx = context("rekey", "meeting", party, (5,))
            rekey = Rekey.parse(signed.payload)
            for link in rekey.links:
                for chain in chains:
                    message_key, _ = Link(chain, link.number).next()
                    try:
                        aad = link_aad(ctx, rekey.key_seq, link.session)
                        opened = unwrap(message_key, link.sealed, aad, "no")
                    except Refusal:
                        continue
                    for new, kek in zip(rekey.keys, Rekey.parse_keks(opened, len(rekey.keys)), strict=True):
                        if kek is not None:
                            got.add(unwrap(kek, new.sealed, key_aad(ctx, rekey.key_seq, new.kid), "no"))
        return got

    def requests(self, bus: Bus, since: float) -> int:
        """How many requests since then the stolen sealing keys open."""
        everybody = {party.announcement: party for party in _parties(bus).values()}
        opened = 0
        for party, signed in _signed(bus, "request", since):
            outer = Sealed.parse("request", signed.payload)
            ctx = context("request", "meeting", party, (5,), everybody[outer.to])
            for key in self.sealing:
                try:
                    key.open(outer.sealed, ctx)
                    opened += 1
                except Refusal:
                    pass
        return opened


def _parties(bus: Bus) -> dict[bytes, Party]:
    """By announcement, who made it: all of it is public."""
    parties = {}
    for message in {m for _, _, m in bus.log}:
        if cbor.decode(message)[1] == "announce":
            signed = cose.parse(message)
            a = Announce.parse(signed.payload)
            bare = Party(a.leaf, a.session, a.epoch)
            digest = hashlib.sha256(signed.structure(context("announce", a.meeting, bare, a.suites))).digest()
            parties[digest] = Party(a.leaf, a.session, a.epoch, digest)
    return parties


def _signed(bus: Bus, kind: str, since: float = 0.0) -> Iterator[tuple[Party, cose.Signed]]:
    parties = _parties(bus)
    for at, _, message in bus.log:
        if at >= since and cbor.decode(message)[1] == kind:
            signed = cose.parse(message)
            yield parties[signed.announcement], signed
