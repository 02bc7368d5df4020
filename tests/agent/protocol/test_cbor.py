"""CBOR from the bus: one encoding, no surprises, bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.agent.protocol import cbor
from dongled.agent.protocol.refusal import Refusal

leaves = st.one_of(
    st.integers(-(2**64), 2**64 - 1), st.binary(max_size=40), st.text(max_size=20), st.booleans(), st.none()
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.integers(-500, 500), st.text(max_size=30)), inner, max_size=4),
    ),
    max_leaves=10,
)


def depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return int(isinstance(value, dict | list)) + max((depth(child) for child in children), default=0)


@given(values)
@settings(max_examples=200)
def test_what_is_encoded_decodes_to_itself(value: Any) -> None:
    if depth(value) <= 8:
        assert cbor.decode(cbor.encode(value)) == value


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_are_either_the_one_encoding_of_a_value_or_refused(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except Refusal:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "cbor-malformed"),
        ("82", "cbor-malformed"),
        ("5bffffffffffffffff", "cbor-malformed"),
        ("9bffffffffffffffff", "cbor-malformed"),
        ("bbffffffffffffffff", "cbor-malformed"),
        ("1c", "cbor-malformed"),
        ("9f01ff", "cbor-malformed"),
        ("5f4101ff", "cbor-malformed"),
        ("62c328", "cbor-malformed"),
        ("a2616101616102", "cbor-malformed"),
        ("1817", "cbor-not-deterministic"),
        ("190010", "cbor-not-deterministic"),
        ("0000", "cbor-not-deterministic"),
        ("a2616201616101", "cbor-not-deterministic"),
        ("a2200118640a", "cbor-not-deterministic"),
        ("d82350", "cbor-tag"),
        ("c249010000000000000000", "cbor-tag"),
        ("d81c80", "cbor-tag"),
        ("d28443a10126a0", "cbor-tag"),
        ("f97e00", "cbor-type"),
        ("fb3ff0000000000000", "cbor-type"),
        ("f7", "cbor-type"),
        ("e0", "cbor-type"),
        ("a1410101", "cbor-type"),
        ("a1f501", "cbor-type"),
        ("81" * 9 + "00", "cbor-depth"),
        ("81" * 60000 + "00", "cbor-depth"),
        ("a100" * 9 + "00", "cbor-depth"),
    ],
)
def test_refused_with_its_reason(data: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        cbor.decode(bytes.fromhex(data))
    assert caught.value.reason == reason


def test_depth_eight_is_still_allowed() -> None:
    assert cbor.decode(bytes.fromhex("81" * 8 + "00")) == [[[[[[[[0]]]]]]]]


def test_too_large_is_refused_unread() -> None:
    with pytest.raises(Refusal, match="too-large"):
        cbor.decode(b"\x00" * 65_537)


def test_map_keys_sort_bytewise_and_not_by_length_first() -> None:
    # RFC 8949, 4.2.1's own example: 10, 100, -1, "z", "aa".
    assert cbor.encode({"aa": 0, -1: 0, "z": 0, 100: 0, 10: 0}).hex() == "a50a001864002000617a0062616100"


@pytest.mark.parametrize("value", [1.5, 2**64, -(2**64) - 1, {b"k": 1}, {True: 1}, object(), {1, 2}])
def test_what_the_protocol_does_not_carry_is_not_encoded(value: object) -> None:
    with pytest.raises(TypeError):
        cbor.encode(value)
