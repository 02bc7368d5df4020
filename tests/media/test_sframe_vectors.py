"""The working group's published vectors (tests/vectors/sframe/SOURCE.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dongled.media import sframe
from dongled.media.errors import MediaError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/sframe/test-vectors.json").read_text())
GCM = [case for case in VECTORS["sframe"] if case["cipher_suite"] in (4, 5)]


def test_the_file_is_whole() -> None:
    assert len(VECTORS["header"]) == 289
    assert [case["cipher_suite"] for case in VECTORS["sframe"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("case", VECTORS["header"], ids=lambda case: case["encoded"])
def test_header(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    assert sframe.encode_header(case["kid"], case["ctr"]) == encoded
    assert sframe.parse_header(encoded + b"\xff") == (case["kid"], case["ctr"], len(encoded))


@pytest.mark.parametrize("case", GCM, ids=lambda case: f"suite{case['cipher_suite']}")
def test_suite(case: dict[str, Any]) -> None:
    kid, ctr, number = case["kid"], case["ctr"], case["cipher_suite"]
    raw = {name: bytes.fromhex(value) for name, value in case.items() if isinstance(value, str)}

    key, salt = sframe.derive_key_salt(sframe.suite_of(number), raw["base_key"], kid)
    assert (key, salt) == (raw["sframe_key"], raw["sframe_salt"])

    derived = sframe.derive(number, raw["base_key"], kid)
    assert derived.nonce(ctr) == raw["nonce"]
    assert sframe.encode_header(kid, ctr) + raw["metadata"] == raw["aad"]
    assert sframe.seal(derived, ctr, raw["metadata"], raw["pt"]) == raw["ct"]

    header = sframe.parse_header(raw["ct"])
    assert sframe.open(derived, header, raw["metadata"], raw["ct"]) == raw["pt"]


@pytest.mark.property("P10")
@pytest.mark.parametrize("number", [0, 1, 2, 3, 6, 7, 8, -1, 65535])
def test_suites_with_short_tags_are_refused(number: int) -> None:
    with pytest.raises(MediaError) as refused:
        sframe.derive(number, bytes(32), 0)
    assert refused.value.reason == "suite-refused"
