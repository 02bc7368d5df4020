"""Strict reading of what Janus sends: JSON with limits, fields of one type, text that can be shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from dongled.agent.sfu.api import SfuError

# The largest message is a `joined` event listing the publishers of a full room.
MAX_JSON = 256 * 1024
MAX_DEPTH = 12
MAX_SDP = 64 * 1024

Json = Mapping[str, Any]
# Rooms and feeds have numbers or names, as Janus is configured (`string_ids`).
JanusId = int | str


@dataclass(frozen=True, slots=True)
class Jsep:
    """An SDP offer or answer, and whether it was flagged as end-to-end encrypted (a claim)."""

    type: str
    sdp: str
    e2ee: bool


def malformed(what: str) -> SfuError:
    """The error of a message that breaks Janus's own rules."""
    return SfuError("sfu-malformed", f"the SFU sent {what}", "is this a Janus of version 1?")


def read_object(text: str) -> Json:
    """Parse one JSON object. Raises SfuError ``sfu-malformed``.

    Refused: over 256 KiB, deeper than 12, a name twice in one object, NaN and infinities.
    """
    if len(text) > MAX_JSON:
        raise malformed(f"{len(text)} characters of JSON")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_no_infinity
        )
        deep = _deeper(value, MAX_DEPTH)
    except (ValueError, RecursionError):
        raise malformed("what is not JSON") from None
    if deep:
        raise malformed(f"JSON deeper than {MAX_DEPTH}")
    if not isinstance(value, dict):
        raise malformed("JSON that is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _no_infinity(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _deeper(value: object, levels: int) -> bool:
    if levels == 0:
        return isinstance(value, dict | list)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_deeper(item, levels - 1) for item in inner)


def integer(message: Json, name: str) -> int:
    """A whole number from 0 to 2^63-1. Raises SfuError."""
    value = message.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise malformed(f"no number as {name!r}")
    return value


def string(message: Json, name: str, limit: int) -> str:
    """Text of 1 to ``limit`` characters that UTF-8 can carry. Raises SfuError."""
    value = message.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not _encodable(value):
        raise malformed(f"no text as {name!r}")
    return value


def name(message: Json, key: str, limit: int) -> str:
    """Text of 1 to ``limit`` printable characters, fit for a log or a terminal. Raises SfuError."""
    value = string(message, key, limit)
    if not value.isprintable():
        raise malformed(f"unprintable text as {key!r}")
    return value


def boolean(message: Json, name: str, missing: bool) -> bool:
    """True or false, ``missing`` when the name is absent. Raises SfuError."""
    value = message.get(name, missing)
    if not isinstance(value, bool):
        raise malformed(f"no truth value as {name!r}")
    return value


def mapping(message: Json, name: str) -> Json:
    """An object. Raises SfuError."""
    value = message.get(name)
    if not isinstance(value, dict):
        raise malformed(f"no object as {name!r}")
    return value


def items(message: Json, name: str, limit: int) -> list[object]:
    """A list of at most ``limit`` items, empty when the name is absent. Raises SfuError."""
    value = message.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise malformed(f"no list of at most {limit} as {name!r}")
    return value


def janus_id(message: Json, key: str, like: JanusId) -> JanusId:
    """A room's or feed's id of the same type as ``like``. Raises SfuError."""
    return integer(message, key) if isinstance(like, int) else name(message, key, 128)


def jsep(message: Json) -> Jsep | None:
    """The ``jsep`` of a message, if it has one. Raises SfuError."""
    if "jsep" not in message:
        return None
    value = mapping(message, "jsep")
    kind = name(value, "type", 16)
    if kind not in ("offer", "answer"):
        raise malformed("a jsep that is neither offer nor answer")
    return Jsep(kind, string(value, "sdp", MAX_SDP), boolean(value, "e2ee", False))


def printable(text: str, limit: int) -> str:
    """``text`` fit for a log or a terminal: control and other unprintable characters replaced, cut."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return shown + ("…" if len(text) > limit else "")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
