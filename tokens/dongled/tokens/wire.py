"""What the broker and its worker say to each other: a length (u32, big-endian) and one CBOR map.

A request is ``{"id": int, "op": str, "args": map}``. An answer is ``{"id": int, "ok": any}``, or
``{"id": int, "refused": [reason, message, hint]}`` where the worker itself declined, or ``{"id": int,
"fault": [exception's name, text]}`` where the module did. The worker's first message is the answer to
request 0, the loading of its module.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import cbor2

HEADER_BYTES = 4
MAX_MESSAGE_BYTES = 1 << 20


class WireError(Exception):
    """The other side does not speak the protocol."""


def frame(message: Mapping[str, Any]) -> bytes:
    """Encode a message with its length."""
    body = cbor2.dumps(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {len(body)} bytes")
    return struct.pack(">I", len(body)) + body


def body_length(header: bytes) -> int:
    """The length that a message's first four bytes announce. Raises WireError."""
    (length,) = struct.unpack(">I", header)
    if not 0 < length <= MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {length} bytes")
    return int(length)


def parse(body: bytes) -> dict[str, Any]:
    """Decode a message's body. Raises WireError."""
    try:
        message = cbor2.loads(body)
        # cbor2 ignores what follows the first item; encoding it again shows whether that was all.
        whole = cbor2.dumps(message) == body
    except (cbor2.CBORDecodeError, cbor2.CBOREncodeError, ValueError, RecursionError) as error:
        raise WireError(f"not CBOR: {type(error).__name__}") from None
    if not whole or not isinstance(message, dict) or not isinstance(message.get("id"), int):
        raise WireError("not a message")
    return message
