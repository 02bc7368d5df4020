"""Link chains against an independent HMAC, and their limits."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from dongled.agent.protocol.links import Link, unwrap, wrap
from dongled.agent.protocol.refusal import Refusal

CTX, SECRET = hashlib.sha256(b"ctx").digest(), bytes(range(32))


def independent(number: int) -> bytes:
    """mk_n straight from RFC 5869's definitions; one block of 32 bytes each."""
    chain = hmac.new(CTX, SECRET, hashlib.sha256).digest()
    for _ in range(number):
        chain = hmac.new(chain, b"dongled/1 link chain\x01", hashlib.sha256).digest()
    info = b"dongled/1 link msg" + number.to_bytes(8, "big") + b"\x01"
    return hmac.new(chain, info, hashlib.sha256).digest()


@pytest.mark.parametrize("number", [0, 1, 2, 64])
def test_message_keys_are_the_specified_ones(number: int) -> None:
    key, moved = Link.begin(CTX, SECRET).at(number)
    assert key == independent(number)
    assert moved.number == number + 1
    assert moved.next()[0] == independent(number + 1)


@pytest.mark.property("P11")
def test_past_positions_and_far_ones_are_refused() -> None:
    _, link = Link.begin(CTX, SECRET).at(3)
    with pytest.raises(Refusal, match="link-replayed"):
        link.at(3)
    link.at(4 + 64)
    with pytest.raises(Refusal, match="link-skip"):
        link.at(4 + 65)


def test_a_look_ahead_leaves_the_link_where_it_was() -> None:
    link = Link.begin(CTX, SECRET)
    link.at(60)
    assert link.number == 0
    assert link.next()[0] == independent(0)


def test_wrapped_bytes_open_under_their_own_data_alone() -> None:
    sealed = wrap(independent(0), b"kek", b"aad")
    assert unwrap(independent(0), sealed, b"aad", "x") == b"kek"
    for key, data, aad in [
        (independent(1), sealed, b"aad"),
        (independent(0), sealed, b"other"),
        (independent(0), sealed[:-1], b"aad"),
        (independent(0), b"", b"aad"),
    ]:
        with pytest.raises(Refusal, match="my-reason"):
            unwrap(key, data, aad, "my-reason")


def test_no_link_shows_its_key() -> None:
    link = Link.begin(CTX, SECRET)
    assert link.chain_key.hex() not in repr(link)
    assert repr(link.chain_key) not in repr(link)
