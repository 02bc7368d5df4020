"""What an insider can sign and seal: its own messages, each with a field that is not as it should be.

Random bytes do not get past a signature. So these are signed, sealed and numbered as they should be, by
somebody with a valid certificate, and go as deep as the machine lets them. Nothing raises, and the others see
on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol import forge
from agent.protocol.bus import CAMERA, Bus, Terminal, kind_of
from dongled.agent.protocol import cbor, cose, limits, sealing
from dongled.agent.protocol.api import Stream
from dongled.agent.protocol.context import Party, context
from dongled.agent.protocol.messages import Request, Sealed
from dongled.media.keyring import commit_base_key

pytestmark = pytest.mark.property("P14")
STREAMS = (*CAMERA, Stream("screen", "vp8"))

Fields = dict[str, Any]


def spoilt(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> Any:
    """Something else in its place, most often of the same type and size."""
    match value:
        case bytes():
            size = len(value)
            same = [bytes(size), b"\xff" * size, b"\x01" + bytes(size - 1) if size else b"", value[::-1]]
            half = value[: size // 2] + bytes(size - size // 2)
            return draw(st.sampled_from([*same, half, half[::-1], value[:-1], value + b"\0", b""]))
        case int():
            return draw(st.sampled_from([0, 1, value + 1, value + 64, value + 65, 2**63, 2**64 - 1]))
        case str():
            return draw(st.sampled_from(["", "a", "camera", "x" * 255, "\0", "0" * 32, value + " "]))
        case list() if value and draw(st.booleans()):
            at = draw(st.integers(0, len(value) - 1))
            return [*value[:at], spoilt(draw, value[at]), *value[at + 1 :]]
        case list():
            return draw(st.sampled_from([[], value * 2, value[::-1], value[:-1], [value]]))
        case dict():
            return draw(st.sampled_from([{}, {1: [b"x"]}, {2: [b"c", bytes(37), b"", b"s"]}, {3: [b"x"]}]))
        case _:
            return draw(st.sampled_from([None, 0, b""]))


def one_spoilt(draw: Callable[[st.SearchStrategy[Any]], Any], fields: Fields) -> bytes:
    name = draw(st.sampled_from(sorted(fields)))
    return cbor.encode({**fields, name: spoilt(draw, fields[name])})


class Meeting:
    """A camera, a viewer, and an insider whose own requests, grants and letters do not get out."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.camera, self.viewer = self.bus.join("camera", CAMERA), self.bus.join("viewer")
        self.insider = self.bus.join("insider", STREAMS)
        self.bus.interfere = lambda s, r, m: (
            [] if s is self.insider and kind_of(m) in ("grant", "request") else [m]
        )
        self.bus.run(2)
        assert self.viewer.can_watch(self.camera)
        self.me = forge.epoch_of(self.insider)
        self.next = self.me.party

    def last(self, kind: str) -> Fields:
        payload: Fields = cbor.decode(cbor.decode(forge.last(self.bus, self.insider, kind))[2][2])
        return payload

    def signed(self, kind: str, payload: bytes, to: Terminal | None = None, request: bytes = b"") -> bytes:
        ctx = self.me.context(kind, forge.party_of(to) if to else None, request)
        return self.me.sign(kind, payload, ctx)[0]

    def by_token(self, kind: str, payload: bytes, party: Party) -> bytes:
        ctx = context(kind, "meeting", party, (5,))
        return forge.token_sign(kind, payload, list(self.me.chain), self.insider, ctx)

    def nonce(self, of: Terminal) -> bytes:
        return self.insider.member._state.remotes[of.session].nonce

    # --- one of each kind, from ``draw``

    def announce(self, draw: Any) -> bytes:
        fields = {**self.last("announce"), "epoch": 2, "previous": self.me.digest}
        payload = one_spoilt(draw, fields)
        claimed = cbor.decode(payload)
        party = Party(claimed["leaf"], claimed["session"], claimed["epoch"])
        ctx = context("announce", claimed["meeting"], party, claimed["suites"])
        message = forge.token_sign("announce", payload, list(self.me.chain), self.insider, ctx)
        self.next = replace(party, announcement=sha256(cose.parse(message).structure(ctx)).digest())
        return message

    def after_it(self) -> bytes:
        """A request under what was announced last: the camera has to seal to its keys."""
        camera = forge.epoch_of(self.camera)
        ctx = context("request", "meeting", self.next, (5,), camera.party)
        inner = Request(("camera",), self.nonce(self.camera), b"\x03" * 16, 2_000, 0).encode()
        sealed = sealing.seal(sealing.xwing_public(camera.announce.xwing), inner, ctx)
        payload = Sealed(camera.digest, sealed).encode()
        return forge.sign("request", payload, self.insider, ctx, claim=self.next.announcement)

    def presence(self, draw: Any) -> bytes:
        fields = self.last("presence")
        fields["counter"] += 1
        return self.by_token("presence", one_spoilt(draw, fields), self.me.party)

    def expel(self, draw: Any) -> bytes:
        for terminal in (self.camera, self.viewer):
            terminal.policy.roles["insider"] = {"moderator"}
        party = self.me.party
        fields = {
            "leaf": party.leaf,
            "session": party.session,
            "epoch": 1,
            "counter": 1,
            "target": ["urn:uuid:nobody", bytes(16), bytes(32)],
            "reason": "loud",
            "lifetime": 60,
        }
        return self.by_token("expel", one_spoilt(draw, fields), party)

    def welcome(self, draw: Any) -> bytes:
        fields = {"to": forge.party_of(self.viewer).announcement, "nonce": bytes(16)}
        return self.signed("welcome", one_spoilt(draw, fields), self.viewer)

    def leave(self, draw: Any) -> bytes:
        return self.signed("leave", one_spoilt(draw, {"counter": 9}))

    def request(self, draw: Any) -> bytes:
        fields = {
            "streams": ["camera"],
            "echo": self.nonce(self.camera),
            "nonce": b"\x02" * 16,
            "counter": 1_000,
            "key_seq": 0,
            "evidence": {},
        }
        return self._sealed("request", one_spoilt(draw, fields), self.camera)

    def refuse(self, draw: Any) -> bytes:
        asked = self._asked()
        inner = one_spoilt(draw, {"nonce": asked.nonce, "reason": "policy"})
        return self._sealed("refuse", inner, self.viewer, asked.digest)

    def grant(self, draw: Any) -> bytes:
        asked, viewer = self._asked(), forge.epoch_of(self.viewer)
        fields = {"keys": self._keys(), "link": bytes(32), "key_seq": 90, "roster": bytes(32), "lifetime": 0}
        inner = one_spoilt(draw, fields)
        ctx = self.me.context("grant", viewer.party, asked.digest)
        outer = sealing.xwing_public(viewer.announce.xwing)
        sealed = sealing.seal_twice(outer, sealing.p256_public(viewer.announce.data), inner, ctx)
        payload = cbor.encode({"to": viewer.digest, "nonce": asked.nonce, "sealed": sealed})
        return self.me.sign("grant", payload, ctx)[0]

    def rekey(self, draw: Any) -> bytes:
        fields = {
            "key_seq": 90,
            "keys": [[stream.id, 900 + n, bytes(32), bytes(80)] for n, stream in enumerate(STREAMS)],
            "links": [[self.viewer.session, 0, b"x" * 60]],
        }
        return self.signed("rekey", one_spoilt(draw, fields))

    def private(self, draw: Any) -> bytes:
        nurse = forge.epoch_of(self.viewer)
        ctx = self.me.context("private", nurse.party)
        stream = ["ab" * 16, "screen", "vp8", 900, self._commit(900), bytes(64)]
        content = one_spoilt(draw, {"id": bytes(16), "streams": [stream], "lifetime": 60})
        body = sealing.seal_to_token(sealing.p256_public(nurse.announce.data), content, ctx)
        letter = {"kind": "invite", "echo": self.nonce(self.viewer), "counter": 1, "body": body}
        encoded = one_spoilt(draw, letter) if draw(st.booleans()) else cbor.encode(letter)
        padded = (len(encoded).to_bytes(2) + encoded).ljust(limits.LETTER, b"\0")
        sealed = sealing.seal(sealing.xwing_public(nurse.announce.xwing), padded, ctx)
        return self.signed("private", cbor.encode({"sealed": sealed}))

    def _sealed(self, kind: str, inner: bytes, to: Terminal, request: bytes = b"") -> bytes:
        epoch = forge.epoch_of(to)
        ctx = self.me.context(kind, epoch.party, request)
        sealed = sealing.seal(sealing.xwing_public(epoch.announce.xwing), inner, ctx)
        return self.me.sign(kind, cbor.encode({"to": epoch.digest, "sealed": sealed}), ctx)[0]

    def _asked(self) -> Any:
        asked = self.viewer.member._subscriber.feeds[self.insider.session].asked
        assert asked is not None
        return asked

    def _commit(self, kid: int) -> bytes:
        return commit_base_key(bytes(64), kid, self.insider.session, self.me.announce.signing)

    def _keys(self) -> list[list[Any]]:
        signing = self.me.announce.signing
        return [[s.id, 900 + n, self._commit(900 + n), bytes(64), signing] for n, s in enumerate(STREAMS)]


KINDS = [
    "announce",
    "presence",
    "expel",
    "welcome",
    "leave",
    "request",
    "refuse",
    "grant",
    "rekey",
    "private",
]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
def test_nothing_that_an_insider_signs_makes_anybody_stumble(kind: str, data: st.DataObject) -> None:
    meeting = Meeting()
    message = getattr(meeting, kind)(data.draw)
    for receiver in (meeting.camera, meeting.viewer):
        meeting.bus.deliver(receiver, message, meeting.insider.source)
    # What it said may have been taken: then it is asked for its keys, and asks for others'.
    meeting.bus.deliver(meeting.camera, meeting.after_it(), meeting.insider.source)
    meeting.bus.run(1)
    meeting.bus.interfere = lambda s, r, m: [m]
    meeting.bus.run(8)
    assert meeting.viewer.can_watch(meeting.camera)
