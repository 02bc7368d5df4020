"""The bus's framing: whatever is sent arrives whole, and nothing else arrives at all."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
from collections.abc import Callable
from functools import partial

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.agent.sfu.bus import (
    CHUNK,
    MAX_HELD,
    MAX_MESSAGE,
    MAX_PENDING,
    MAX_TEXT,
    PENDING_LIFE,
    BusRefused,
    Reassembler,
    chunk,
)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def packet(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def part(message: bytes, index: int, count: int, body: bytes) -> str:
    return packet(b"\x02" + hashlib.sha256(message).digest()[:16] + bytes([index, count]) + body)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(BusRefused) as caught:
        action()
    return caught.value.reason


@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, 2 * CHUNK, 60_000, MAX_MESSAGE])
def test_arrives_whole_in_any_order_of_its_parts(size: int) -> None:
    message = noise(size)
    packets = chunk(message)
    assert len(packets) == -(-size // CHUNK)
    assert max(map(len, packets)) <= MAX_TEXT
    random.Random(size).shuffle(packets)
    reassembler = Reassembler()
    results = [reassembler.receive("a", text, 0) for text in packets]
    assert results == [None] * (len(packets) - 1) + [message]


@hypothesis.settings(deadline=None)
@given(st.binary(min_size=1, max_size=MAX_MESSAGE), st.binary(min_size=1, max_size=MAX_MESSAGE))
def test_two_messages_of_one_source_may_interleave(one: bytes, other: bytes) -> None:
    reassembler = Reassembler()
    ones, others = chunk(one), chunk(other)
    arrived = []
    for at in range(max(len(ones), len(others))):
        for packets in (ones, others):
            if at < len(packets):
                arrived.append(reassembler.receive("a", packets[at], 0))
    assert sorted(m for m in arrived if m is not None) == sorted([one, other])


def test_sources_are_kept_apart() -> None:
    first, second = chunk(noise(CHUNK + 1))
    reassembler = Reassembler()
    assert reassembler.receive("a", first, 0) is None
    assert reassembler.receive("b", second, 0) is None


def test_the_format_is_the_documented_one() -> None:
    assert chunk(b"hello") == ["AWhlbGxv"]
    message = noise(CHUNK + 3)
    assert chunk(message) == [part(message, 0, 2, message[:CHUNK]), part(message, 1, 2, message[CHUNK:])]


def test_what_cannot_be_sent() -> None:
    assert refusal(lambda: chunk(b"")) == "message-empty"
    assert refusal(lambda: chunk(bytes(MAX_MESSAGE + 1))) == "message-too-large"


FULL = bytes(CHUNK)


@pytest.mark.property("P14")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "packet-encoding"),
        ("AWhlbGxv\n", "packet-encoding"),
        (" AWhlbGxv", "packet-encoding"),
        ("AWhlbGx", "packet-encoding"),
        ("AWhlbGxv=", "packet-encoding"),
        ("AWhlbA", "packet-encoding"),
        ("AWhlbB==", "packet-encoding"),  # stray bits behind the last byte
        ("_-8=", "packet-encoding"),
        ("AWhlbGxö", "packet-encoding"),
        ("\ud800", "packet-encoding"),
        ("A" * (MAX_TEXT + 1), "packet-too-large"),
        (packet(b"\x00x"), "packet-type"),
        (packet(b"\x03x"), "packet-type"),
        (packet(b"\x01"), "message-empty"),
        (packet(b"\x01" + FULL + b"x"), "packet-too-large"),
        (packet(b"\x02"), "chunk-malformed"),
        (part(b"", 0, 2, b""), "chunk-malformed"),
        (part(b"", 0, 0, FULL), "chunk-malformed"),
        (part(b"", 0, 1, FULL), "chunk-malformed"),
        (part(b"", 2, 2, b"x"), "chunk-malformed"),
        (part(b"", 0, 6, FULL), "chunk-malformed"),
        (part(b"", 0, 2, FULL[1:]), "chunk-length"),
        (part(b"", 1, 2, FULL + b"x"), "chunk-length"),
        (part(b"", 4, 5, bytes(MAX_MESSAGE - 4 * CHUNK + 1)), "message-too-large"),
    ],
)
def test_each_malformed_packet_has_its_reason(text: str, reason: str) -> None:
    assert refusal(lambda: Reassembler().receive("a", text, 0)) == reason


CHUNKS = st.binary(max_size=60).map(lambda body: packet(b"\2" + body))
PACKETS = st.text() | st.binary(max_size=200).map(packet) | CHUNKS


@hypothesis.settings(deadline=None)
@given(PACKETS)
def test_garbage_is_refused_or_a_message_never_a_crash(text: str) -> None:
    with contextlib.suppress(BusRefused):
        message = Reassembler().receive("a", text, 0)
        assert message is None or chunk(message) == [text]


def test_a_message_must_match_its_id() -> None:
    message = noise(2 * CHUNK)
    reassembler = Reassembler()
    reassembler.receive("a", part(message, 0, 2, message[:CHUNK]), 0)
    forged = part(message, 1, 2, noise(CHUNK, 1))
    assert refusal(lambda: reassembler.receive("a", forged, 0)) == "message-hash"
    # And it is forgotten: the true message still gets through.
    assert [reassembler.receive("a", text, 0) for text in chunk(message)][-1] == message


def test_contradicting_chunks_drop_their_message() -> None:
    message = noise(3 * CHUNK)
    first, second, third = chunk(message)
    for forged in (part(message, 0, 3, noise(CHUNK, 1)), part(message, 1, 4, message[CHUNK : 2 * CHUNK])):
        reassembler = Reassembler()
        reassembler.receive("a", first, 0)
        assert refusal(partial(reassembler.receive, "a", forged, 0)) == "chunk-conflict"
        assert reassembler.receive("a", second, 0) is None
        assert reassembler.receive("a", third, 0) is None


def test_a_repeated_chunk_changes_nothing() -> None:
    first, second = chunk(noise(2 * CHUNK))
    reassembler = Reassembler()
    assert reassembler.receive("a", first, 0) is None
    assert reassembler.receive("a", first, 0) is None
    assert reassembler.receive("a", second, 0) is not None


def test_repeated_chunks_claim_no_memory() -> None:
    reassembler = Reassembler()
    first, _ = chunk(noise(2 * CHUNK))
    for _ in range(MAX_HELD // CHUNK + 1):
        assert reassembler.receive("a", first, 0) is None
    assert reassembler.receive("b", first, 0) is None


def test_eight_unfinished_messages_and_no_ninth() -> None:
    reassembler = Reassembler()
    messages = [noise(2 * CHUNK, seed) for seed in range(MAX_PENDING + 1)]
    for message in messages[:-1]:
        reassembler.receive("a", chunk(message)[0], 0)
    assert refusal(lambda: reassembler.receive("a", chunk(messages[-1])[0], 0)) == "too-many-pending"
    assert reassembler.receive("b", chunk(messages[-1])[0], 0) is None
    # Whole messages and the other halves of the eight still pass.
    assert reassembler.receive("a", chunk(b"small")[0], 0) == b"small"
    for message in messages[:-1]:
        assert reassembler.receive("a", chunk(message)[1], 0) == message
    assert reassembler.receive("a", chunk(messages[-1])[0], 0) is None


def test_unfinished_messages_expire() -> None:
    message = noise(2 * CHUNK)
    first, second = chunk(message)
    reassembler = Reassembler()
    reassembler.receive("a", first, 100)
    assert reassembler.expire(100 + PENDING_LIFE - 0.001) == []
    assert reassembler.expire(100 + PENDING_LIFE) == ["a"]
    assert reassembler.expire(100 + PENDING_LIFE) == []
    assert reassembler.receive("a", second, 200) is None


def test_a_chunk_does_not_prolong_its_message() -> None:
    first, second, _ = chunk(noise(3 * CHUNK))
    reassembler = Reassembler()
    reassembler.receive("a", first, 0)
    reassembler.receive("a", second, PENDING_LIFE - 1)
    assert reassembler.expire(PENDING_LIFE) == ["a"]


def test_invented_sources_cannot_fill_the_memory() -> None:
    reassembler = Reassembler()
    first, second = chunk(noise(2 * CHUNK))
    for source in range(MAX_HELD // CHUNK):
        assert reassembler.receive(str(source), first, 0) is None
    assert refusal(lambda: reassembler.receive("one more", first, 0)) == "bus-memory"
    reassembler.forget("0")
    assert reassembler.receive("one more", first, 0) is None
    # Finished and expired ones give their memory back.
    assert len(reassembler.expire(PENDING_LIFE)) == MAX_HELD // CHUNK
    for source in range(MAX_HELD // CHUNK):
        assert reassembler.receive(str(source), first, 0) is None
    reassembler.forget("0")
    assert reassembler.receive("1", second, 0) is not None
    assert reassembler.receive("two more", first, 0) is None


def test_forgetting_an_unknown_source_is_nothing() -> None:
    Reassembler().forget("nobody")
