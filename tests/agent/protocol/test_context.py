"""Every field of ctx counts, and the type counts beside it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from dongled.agent.protocol import cose
from dongled.agent.protocol.context import Party, context

SENDER = Party(b"\x01" * 32, b"\x02" * 16, 3, b"\x04" * 32)
RECEIVER = Party(b"\x05" * 32, b"\x06" * 16, 7, b"\x08" * 32)
WHOLE: dict[str, Any] = {
    "kind": "grant",
    "meeting": "meeting",
    "sender": SENDER,
    "suites": (5,),
    "receiver": RECEIVER,
    "request": b"\x09" * 32,
}


def test_ctx_is_the_documented_array() -> None:
    ctx = [
        "dongled/1",
        "grant",
        "meeting",
        [b"\x01" * 32, b"\x02" * 16, 3, b"\x04" * 32],
        [b"\x05" * 32, b"\x06" * 16, 7, b"\x08" * 32],
        b"\x09" * 32,
        [5],
    ]
    assert context(**WHOLE) == hashlib.sha256(cbor2.dumps(ctx, canonical=True)).digest()


@pytest.mark.property("P4")
@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rekey"},
        {"meeting": "another"},
        {"suites": (4,)},
        {"receiver": None},
        {"request": b""},
        {"sender": RECEIVER, "receiver": SENDER},
        {"sender": replace(SENDER, epoch=4)},
        {"sender": replace(SENDER, leaf=bytes(32))},
        {"receiver": replace(RECEIVER, leaf=bytes(32))},
        {"receiver": replace(RECEIVER, session=bytes(16))},
        {"receiver": replace(RECEIVER, announcement=bytes(32))},
    ],
)
def test_each_field_counts(change: dict[str, Any]) -> None:
    assert context(**{**WHOLE, **change}) != context(**WHOLE)


@pytest.mark.property("P4")
def test_what_is_signed_is_the_documented_structure() -> None:
    ctx = context(**WHOLE)
    signed = cbor2.dumps(["Signature1", b"\xa0", b"dongled/1 grant" + ctx, b"payload"], canonical=True)
    assert cose.structure("grant", b"\xa0", b"payload", ctx) == signed
    assert cose.structure("rekey", b"\xa0", b"payload", ctx) != signed
