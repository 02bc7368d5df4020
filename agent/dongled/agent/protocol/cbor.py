"""CBOR as this protocol allows it: RFC 8949 core deterministic encoding, no tags, no floats.

https://www.rfc-editor.org/rfc/rfc8949#section-4.2.1
"""

from __future__ import annotations

from typing import Any

import cbor2

from dongled.agent.protocol import limits
from dongled.agent.protocol.refusal import Refusal

# int, bytes, str, None, bool, list and dict of these; keys are int or str.
Value = Any


def encode(value: Value) -> bytes:
    """The one encoding of ``value``. Raises TypeError for what the protocol does not carry."""
    return cbor2.dumps(_ordered(value))


def decode(data: bytes, *, limit: int = limits.MESSAGE) -> Value:
    """Decode ``data``, which must be the core deterministic encoding of one item. Raises Refusal."""
    if len(data) > limit:
        raise Refusal("too-large", f"{len(data)} bytes, {limit} allowed")
    _scan(data)
    try:
        value = cbor2.loads(
            data, max_depth=limits.CBOR_DEPTH, allow_indefinite=False, allow_duplicate_keys=False
        )
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError) as error:
        raise Refusal("cbor-malformed", str(error)[:100]) from None
    try:
        again = encode(value)
    except (cbor2.CBOREncodeError, TypeError) as error:
        raise Refusal("cbor-type", str(error)[:100]) from None
    if again != data:
        raise Refusal("cbor-not-deterministic", "not the shortest, or not in order, or followed by more")
    return value


def _ordered(value: Value) -> Value:
    match value:
        case bool() | None | bytes() | str():
            return value
        case int():
            if not -limits.UINT - 1 <= value <= limits.UINT:
                raise TypeError("an integer beyond 64 bits")
            return value
        case list() | tuple():
            return [_ordered(item) for item in value]
        case dict():
            if not all(type(key) in (int, str) for key in value):
                raise TypeError("a map key that is neither an integer nor text")
            # Section 4.2.1: bytewise lexicographic order of the keys' encodings.
            return {key: _ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
        case _:
            raise TypeError(f"a {type(value).__name__}")


def _scan(data: bytes) -> None:
    # cbor2 gives some tags a meaning (regular expressions, shared references) while it decodes, so tags,
    # floats and depth are looked for before it sees the bytes. RFC 8949, section 3.
    position = 0
    open_items = [1]
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        if position >= len(data):
            raise Refusal("cbor-malformed", "ends early")
        major, info = data[position] >> 5, data[position] & 31
        position += 1
        if info >= 28:
            raise Refusal("cbor-malformed", "indefinite length or reserved head")
        size = 0 if info < 24 else 1 << (info - 24)
        argument = int.from_bytes(data[position : position + size]) if size else info
        position += size
        if major == 6:
            raise Refusal("cbor-tag", f"tag {argument}")
        if major == 7 and argument not in (20, 21, 22):
            raise Refusal("cbor-type", "a float or an unknown simple value")
        if major in (2, 3):
            position += argument
        if position > len(data):
            raise Refusal("cbor-malformed", "ends early")
        if major in (4, 5):
            if len(open_items) > limits.CBOR_DEPTH:
                raise Refusal("cbor-depth", f"nested deeper than {limits.CBOR_DEPTH}")
            open_items.append(argument * (major - 3))
