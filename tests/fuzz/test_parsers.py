"""Every parser of untrusted bytes: whatever comes, it is taken or refused by the parser's own refusal."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.protocol.bus import CAMERA, Bus
from dongled.agent.audit import chain
from dongled.agent.control.client import fetch_status
from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from dongled.agent.meetings.feeds import parse_encrypted, parse_plain
from dongled.agent.policy.api import PolicyRefused, PolicyUndecided
from dongled.agent.policy.authorizer import exchange
from dongled.agent.policy.authorizer.api import Question
from dongled.agent.policy.clock import TimeSource, TrustedClock
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.protocol import cbor, cose, limits, messages, private_messages, sealing
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.bus import BusRefused, Reassembler, chunk
from dongled.agent.sfu.janus import wire
from dongled.media import sframe
from dongled.media.errors import FrameRejected
from dongled.tokens.wire import WireError, body_length, parse
from fuzz.mutations import corpus, letters, misfilled, nearly, recorded, texts
from support.authority import DAY, NOW, Authority, der, new_key
from support.controlled import ControlledDouble
from support.frames import Generation, delta_frame, key_frame, opener, sealer

pytestmark = pytest.mark.property("P14")
often = settings(max_examples=300, deadline=None)
rarely = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PAYLOADS: dict[str, Callable[[bytes], Any]] = {
    "announce": messages.Announce.parse,
    "welcome": messages.Welcome.parse,
    "presence": messages.Presence.parse,
    "request": lambda payload: messages.Sealed.parse("request", payload),
    "grant": messages.Grant.parse,
    "refuse": lambda payload: messages.Sealed.parse("refuse", payload),
    "rekey": messages.Rekey.parse,
    "leave": messages.Leave.parse,
    "expel": messages.Expel.parse,
    "private": private_messages.Opaque.parse,
}
INSIDES: dict[str, Callable[[bytes], Any]] = {
    "request": messages.Request.parse,
    "grant": lambda plaintext: messages.Keys.parse(plaintext, limits.BASE_KEY[5]),
    "refuse": messages.Refuse.parse,
}
LETTERS: dict[str, Callable[[bytes], Any]] = {
    "invite": lambda content: private_messages.Invite.parse(content, limits.BASE_KEY[5]),
    "accept": lambda content: private_messages.Accept.parse(content, limits.BASE_KEY[5]),
    "end": private_messages.End.parse,
    "ack": private_messages.Ack.parse,
}


@given(misfilled(recorded("message")) | nearly([*recorded("message"), *corpus("cbor")]))
@often
def test_envelopes(data: bytes) -> None:
    with contextlib.suppress(Refusal):
        signed = cose.parse(data)
        assert cose.envelope(signed.kind, signed.protected, signed.payload, signed.signature) == data


@given(nearly([*recorded("payload"), *corpus("cbor")]))
@often
def test_whatever_decodes_is_spelt_in_one_way(data: bytes) -> None:
    with contextlib.suppress(Refusal):
        assert cbor.encode(cbor.decode(data)) == data


@pytest.mark.parametrize("kind", PAYLOADS)
@given(st.data())
@rarely
def test_payloads(kind: str, data: st.DataObject) -> None:
    seeds = recorded("payload", kind)
    payload = data.draw(misfilled(seeds) | nearly([*seeds, *corpus("cbor")]))
    with contextlib.suppress(Refusal):
        assert PAYLOADS[kind](payload).encode() == payload


@pytest.mark.parametrize("kind", INSIDES)
@given(st.data())
@rarely
def test_what_was_sealed(kind: str, data: st.DataObject) -> None:
    seeds = recorded("plaintext", kind)
    plaintext = data.draw(misfilled(seeds) | nearly([*seeds, *corpus("cbor")]))
    with contextlib.suppress(Refusal):
        assert INSIDES[kind](plaintext).encode() == plaintext


@given(nearly(recorded("plaintext", "private")))
@rarely
def test_letters(data: bytes) -> None:
    with contextlib.suppress(Refusal):
        assert private_messages.Letter.parse(data).encode() == data


@pytest.mark.parametrize("kind", LETTERS)
@given(st.data())
@rarely
def test_what_a_letter_says(kind: str, data: st.DataObject) -> None:
    seeds = letters(kind)
    content = data.draw(misfilled(seeds) | nearly([*seeds, *corpus("cbor")]))
    with contextlib.suppress(Refusal):
        assert LETTERS[kind](content).encode() == content


@given(nearly(recorded("sealed", "grant")))
@rarely
def test_seals(data: bytes) -> None:
    with pytest.raises(Refusal):
        sealing.XWingKey.generate().open(data, bytes(32))
    with contextlib.suppress(Refusal):
        sealing.inner_point(data)
        sealing.open_inner(data, sealing.inner_point(data), bytes(32), bytes(32))


@given(st.lists(nearly([*recorded("message"), *corpus("cbor")]), max_size=4))
@rarely
def test_a_member_never_raises(arriving: list[bytes]) -> None:
    bus = Bus()
    camera = bus.join("camera", CAMERA)
    viewer = bus.join("viewer")
    bus.run(1.2)
    said = [message for _, _, message in bus.log]
    for data in arriving:
        bus.deliver(camera, data)
        bus.deliver(viewer, said[len(data) % len(said)][: len(data)] + data)
    bus.run(1)
    assert viewer.can_watch(camera)


PACKETS = [base64.b64decode(text) for size in (3, 15_361, 60_000) for text in chunk(bytes(size))]


@given(st.lists(st.tuples(st.sampled_from("ab"), nearly(PACKETS)), max_size=8), st.booleans())
@often
def test_packets(arriving: list[tuple[str, bytes]], spoilt: bool) -> None:
    reassembler = Reassembler()
    for source, packet in arriving:
        text = base64.b64encode(packet).decode()
        with contextlib.suppress(BusRefused):
            whole = reassembler.receive(source, text[1:] if spoilt else text, 0.0)
            assert whole is None or 1 <= len(whole) <= 65_536
    reassembler.expire(1e9)
    assert reassembler._held == 0


@given(texts(corpus("janus")))
@example("[" * 100_000)
@often
def test_what_janus_says(text: str) -> None:
    with contextlib.suppress(SfuError):
        message = wire.read_object(text)
        for read in (
            lambda: wire.jsep(message),
            lambda: wire.mapping(message, "plugindata"),
            lambda: wire.items(message, "publishers", 8),
            lambda: wire.integer(message, "id"),
            lambda: wire.name(message, "display", 256),
            lambda: wire.boolean(message, "e2ee", True),
            lambda: wire.janus_id(message, "id", "room"),
            lambda: wire.janus_id(message, "id", 1),
        ):
            with contextlib.suppress(SfuError):
                read()


@given(texts(corpus("display")))
@often
def test_displays(text: str) -> None:
    encrypted, plain = parse_encrypted(text), parse_plain(text)
    assert encrypted is None or (plain is None and len(encrypted.session) == 16)


SENDER = Generation()
SEALED = [sealer(SENDER).seal(frame) for frame in (key_frame(),)]
OTHERS = [key_frame(), delta_frame(), *corpus("frame")]


@given(nearly([*SEALED, *OTHERS]))
@often
def test_frames(data: bytes) -> None:
    opening = opener(SENDER)
    with contextlib.suppress(FrameRejected):
        opening.open(data)
        assert data in SEALED
    with contextlib.suppress(FrameRejected):
        header = sframe.parse_header(data)
        assert sframe.encode_header(header.kid, header.ctr) == data[: header.size]


ROOT = Authority.root(begin=NOW - DAY, end=NOW + DAY)
LEAF = der(ROOT.leaf(new_key(), begin=NOW - DAY, end=NOW + DAY))


@given(st.lists(nearly([LEAF, der(ROOT.certificate)]), max_size=4))
@often
def test_certificates(chain: list[bytes]) -> None:
    policy = CertificatePolicy([der(ROOT.certificate)], TrustedClock(TimeSource.SYSTEM))
    with contextlib.suppress(PolicyRefused):
        policy.check_identity(chain)
    with contextlib.suppress(PolicyRefused):
        policy.check_identity([LEAF, *chain])


@given(nearly(corpus("worker")))
@often
def test_what_a_worker_says(data: bytes) -> None:
    with contextlib.suppress(WireError):
        parse(data)
    with contextlib.suppress(WireError):
        body_length(data[:4].rjust(4, b"\0"))


async def test_whoever_writes_nonsense_to_the_control_socket_hurts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    server = ControlServer(path, ControlInterface(ControlledDouble()))
    await server.start()
    try:
        for data in corpus("varlink"):
            reader, writer = await asyncio.open_unix_connection(path)
            with contextlib.suppress(ConnectionError, TimeoutError):
                writer.write(data)
                await writer.drain()
                writer.write_eof()
                async with asyncio.timeout(5):
                    await reader.read()
            writer.close()
            assert await fetch_status(path) == ControlledDouble().status()
    finally:
        await server.close()


ANSWER = b'{"id": "00", "allow": true, "streams": ["camera"], "reason": "x", "seconds": 60}'


@given(nearly([ANSWER, b"[" * 5000, b'{"id": "00", "allow": 1e999}']))
@often
def test_what_an_authorizer_answers(data: bytes) -> None:
    asked = Question("m", "urn:uuid:x", "CN=x", b"", "", ("viewer",), "hardware", ("camera",), ())
    with contextlib.suppress(PolicyUndecided):
        assert exchange._verdict(data, "00", asked).streams <= {"camera"}


@given(nearly([b'{"n":1,"prev":"' + b"0" * 64 + b'","event":"granted"}\n', b"\n", b"{"]))
@often
def test_audit_logs(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(chain.Broken):
        file.write(data)
        file.flush()
        chain.verify([Path(file.name)])
