"""Bytes that are nearly right: a seed of the corpus, cut, spliced and flipped as hypothesis likes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cbor2
from hypothesis import strategies as st

from dongled.agent.protocol import cbor

HERE = Path(__file__).parent
VECTORS = HERE.parent / "vectors/dongled"
INTERESTING = [bytes([n]) for n in (0, 1, 0x1B, 0x3B, 0x5B, 0x7B, 0x9B, 0xBB, 0xDB, 0xFB, 0x7F, 0x80, 0xFF)]


def corpus(target: str) -> list[bytes]:
    """What was worth keeping for this target: corpus.json has it in hex."""
    kept = json.loads((HERE / "corpus.json").read_text())
    return [bytes.fromhex(seed) for seed in kept[target]]


def recorded(field: str, *kinds: str) -> list[bytes]:
    """A field of the messages of these types (all, if none is named) of the test vectors."""
    messages = json.loads((VECTORS / "messages.json").read_text())
    return [bytes.fromhex(m[field]) for m in messages if field in m and (not kinds or m["type"] in kinds)]


def letters(kind: str) -> list[bytes]:
    """What the test vectors' letters of this kind say."""
    messages = json.loads((VECTORS / "messages.json").read_text())
    found = (message["letter"] for message in messages if "letter" in message)
    return [bytes.fromhex(letter["content"]) for letter in found if letter["kind"] == kind]


@st.composite
def nearly(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` after up to four changes; or just any bytes."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=200))
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        other = draw(st.sampled_from(seeds))
        start = draw(st.integers(0, len(other)))
        part = draw(
            st.one_of(
                st.just(b""),
                st.sampled_from(INTERESTING),
                st.binary(max_size=9),
                st.just(other[start : start + 40]),
            )
        )
        data = data[:at] + part + data[end:]
    return data


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def misfilled(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds``, all CBOR, spelt as it should be and with one value that has no business there."""

    def change(value: Any) -> Any:
        if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = draw(st.sampled_from(keys))
            copy = value.copy()
            copy[key] = change(value[key])
            return copy
        return draw(VALUES)

    return cbor.encode(change(cbor2.loads(draw(st.sampled_from(seeds)))))


def texts(seeds: Sequence[bytes]) -> st.SearchStrategy[str]:
    """The same, for parsers of text."""
    return nearly(seeds).map(lambda data: data.decode("utf-8", "replace"))
