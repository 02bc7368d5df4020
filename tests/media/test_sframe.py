"""Headers and sealing on their own: one encoding a value, and nothing but FrameRejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.media import sframe
from dongled.media.errors import FrameRejected

U64 = st.one_of(st.integers(0, 16), st.integers(0, 2**64 - 1), st.sampled_from([2**n - 1 for n in range(65)]))


@given(kid=U64, ctr=U64, tail=st.binary(max_size=4))
def test_what_is_encoded_is_parsed(kid: int, ctr: int, tail: bytes) -> None:
    encoded = sframe.encode_header(kid, ctr)
    assert sframe.parse_header(encoded + tail) == (kid, ctr, len(encoded))


@given(st.binary(max_size=20))
def test_what_is_parsed_is_the_only_encoding(data: bytes) -> None:
    try:
        header = sframe.parse_header(data)
    except FrameRejected:
        return
    assert sframe.encode_header(header.kid, header.ctr) == data[: header.size]


@pytest.mark.property("P11")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="empty"),
        pytest.param("0807", id="ctr 7 in a byte"),
        pytest.param("8000", id="kid 0 in a byte"),
        pytest.param("9000ff", id="kid 255 in two"),
        pytest.param("0900ff", id="ctr 255 in two"),
        pytest.param("f000000000000000ff", id="kid 255 in eight"),
        pytest.param("880900", id="ctr 0 after a good kid"),
        pytest.param("0f01020304050607", id="cut"),
    ],
)
def test_longer_forms_and_cut_ones_are_refused(data: str) -> None:
    with pytest.raises(FrameRejected) as refused:
        sframe.parse_header(bytes.fromhex(data))
    assert refused.value.reason == "malformed"


@given(kid=U64, ctr=U64)
def test_every_cut_is_refused(kid: int, ctr: int) -> None:
    encoded = sframe.encode_header(kid, ctr)
    for size in range(len(encoded)):
        with pytest.raises(FrameRejected):
            sframe.parse_header(encoded[:size])


@pytest.mark.parametrize(("kid", "ctr"), [(-1, 0), (0, -1), (2**64, 0), (0, 2**64)])
def test_values_beyond_64_bits_are_refused(kid: int, ctr: int) -> None:
    with pytest.raises(ValueError):
        sframe.encode_header(kid, ctr)


@pytest.mark.parametrize("suite", [4, 5])
@given(ctr=U64, other=U64)
def test_a_nonce_for_each_counter(suite: int, ctr: int, other: int) -> None:
    key = sframe.derive(suite, bytes(64), 3)
    assert len(key.nonce(ctr)) == 12
    assert (key.nonce(ctr) == key.nonce(other)) == (ctr == other)


def test_kid_and_suite_separate_keys() -> None:
    base_key = bytes(64)
    derived = {
        sframe.derive_key_salt(sframe.suite_of(suite), base_key, kid)[0][:16]
        for suite in (4, 5)
        for kid in (0, 1, 2**63)
    }
    assert len(derived) == 6
