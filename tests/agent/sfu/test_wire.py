"""Hostile JSON is refused with an SfuError and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus import wire
from dongled.agent.sfu.janus.errors import CORE, TEXTROOM, VIDEOROOM, janus_error

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def refused(action: Callable[[], object]) -> None:
    with pytest.raises(SfuError) as caught:
        action()
    assert caught.value.reason == "sfu-malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"text"',
        "{",
        '{"a":1}x',
        '{"a":1,"a":2}',
        '{"b":{"a":1,"a":1}}',
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":1e999}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":' * 100_000,
        '{"a":' * (wire.MAX_DEPTH + 1) + "1" + "}" * (wire.MAX_DEPTH + 1),
        '{"a":' + "[" * wire.MAX_DEPTH + "]" * wire.MAX_DEPTH + "}",
        '{"a":"' + "x" * wire.MAX_JSON + '"}',
        "\ufeff{}",
        "\x00",
    ],
)
def test_hostile_json_is_refused(text: str) -> None:
    refused(lambda: wire.read_object(text))


def test_as_deep_as_allowed() -> None:
    depth = wire.MAX_DEPTH
    assert wire.read_object('{"a":' * depth + "1" + "}" * depth)


@hypothesis.settings(deadline=None)
@given(st.text() | VALUES.map(json.dumps))
def test_reading_never_crashes(text: str) -> None:
    with contextlib.suppress(SfuError):
        assert isinstance(wire.read_object(text), dict)


@hypothesis.settings(deadline=None)
@given(VALUES)
def test_fields_have_their_type_or_are_refused(value: Any) -> None:
    message = {"x": value}
    readers: list[tuple[Callable[[], object], type]] = [
        (lambda: wire.integer(message, "x"), int),
        (lambda: wire.string(message, "x", 10), str),
        (lambda: wire.name(message, "x", 10), str),
        (lambda: wire.boolean(message, "x", False), bool),
        (lambda: wire.mapping(message, "x"), dict),
        (lambda: wire.items(message, "x", 3), list),
        (lambda: wire.jsep({"jsep": value}), type(None)),
    ]
    for reader, kind in readers:
        with contextlib.suppress(SfuError):
            assert type(reader()) is kind


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 1 << 63])
def test_what_is_no_id(value: object) -> None:
    refused(lambda: wire.integer({"id": value}, "id"))


@pytest.mark.parametrize("value", ["", "x" * 11, "\ud800", 5, None, ["x"]])
def test_what_is_no_text(value: object) -> None:
    refused(lambda: wire.string({"x": value}, "x", 10))


@pytest.mark.parametrize("value", ["", "x" * 11, "\ud800", "\x1b[2J", "a\nb", "\u202e", 5, None])
def test_what_is_no_name(value: object) -> None:
    refused(lambda: wire.name({"x": value}, "x", 10))


def test_an_id_is_of_the_rooms_own_type() -> None:
    assert wire.janus_id({"id": 5}, "id", 1) == 5
    assert wire.janus_id({"id": "5"}, "id", "room") == "5"
    refused(lambda: wire.janus_id({"id": "5"}, "id", 1))
    refused(lambda: wire.janus_id({"id": 5}, "id", "room"))


@pytest.mark.parametrize(
    "jsep",
    [
        None,
        {},
        {"type": "offer"},
        {"type": "pranswer", "sdp": "v=0"},
        {"type": "offer", "sdp": 5},
        {"type": "offer", "sdp": "x" * (wire.MAX_SDP + 1)},
        {"type": "offer", "sdp": "v=0", "e2ee": "true"},
        {"type": "offer", "sdp": "v=0", "e2ee": 1},
    ],
)
def test_what_is_no_jsep(jsep: object) -> None:
    refused(lambda: wire.jsep({"jsep": jsep}))


def test_a_jsep() -> None:
    assert wire.jsep({}) is None
    found = wire.jsep({"jsep": {"type": "answer", "sdp": "v=0\r\n", "e2ee": True}})
    assert found == wire.Jsep("answer", "v=0\r\n", True)


def test_what_janus_says_is_shown_without_control_characters() -> None:
    shown = str(janus_error(CORE, 403, "\x1b[2J" + "x" * 1000))
    assert shown.isprintable()
    assert len(shown) < 250


@pytest.mark.parametrize(
    ("realm", "code", "reason"),
    [
        (CORE, 403, "unauthorized"),
        (CORE, 999, "janus-error"),
        (VIDEOROOM, 426, "no-such-room"),
        (VIDEOROOM, 428, "no-such-feed"),
        (VIDEOROOM, 433, "room-unauthorized"),
        (VIDEOROOM, 436, "id-exists"),
        (TEXTROOM, 417, "no-such-room"),
        (TEXTROOM, 420, "member-exists"),
        # The same number, another meaning.
        (VIDEOROOM, 425, "already-joined"),
        (TEXTROOM, 421, "already-joined"),
        (VIDEOROOM, 421, "janus-error"),
    ],
)
def test_numbers_become_reasons(realm: str, code: int, reason: str) -> None:
    error = janus_error(realm, code, "text")
    assert error.reason == reason
    assert str(code) in str(error)
    assert error.hint
