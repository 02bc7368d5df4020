"""Strict reading of one message's fields: exactly these, each of its type and within its bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dongled.agent.protocol import cbor, limits
from dongled.agent.protocol.refusal import Refusal

# As the SFU's names of feeds carry it (docs/protocol.md, The bus).
STREAM_ID = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)


class Reader:
    """Reads one message's map or array. Every failure is Refusal(``malformed-<kind>``, field)."""

    def __init__(self, kind: str) -> None:
        self._reason = f"malformed-{kind}"

    def fail(self, field: str) -> Refusal:
        return Refusal(self._reason, field)

    def map(self, payload: bytes, names: set[str]) -> Mapping[str, Any]:
        value = cbor.decode(payload)
        if not isinstance(value, dict) or set(value) != names:
            raise self.fail("fields")
        return value

    def items(self, value: object, field: str, most: int, least: int = 0) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.fail(field)
        return value

    def row(self, value: object, field: str, width: int) -> list[Any]:
        return self.items(value, field, width, width)

    def octets(self, value: object, field: str, *sizes: int) -> bytes:
        if not isinstance(value, bytes) or len(value) not in sizes:
            raise self.fail(field)
        return value

    def blob(self, value: object, field: str, most: int, least: int = 1) -> bytes:
        if not isinstance(value, bytes) or not least <= len(value) <= most:
            raise self.fail(field)
        return value

    def text(self, value: object, field: str, most: int = limits.NAME) -> str:
        if not isinstance(value, str) or not 1 <= len(value.encode()) <= most:
            raise self.fail(field)
        return value

    def stream(self, value: object, field: str) -> str:
        if not isinstance(value, str) or not STREAM_ID.fullmatch(value):
            raise self.fail(field)
        return value

    def uint(self, value: object, field: str, least: int = 0) -> int:
        if type(value) is not int or not least <= value <= limits.UINT:
            raise self.fail(field)
        return value

    def distinct(self, values: list[Any], field: str) -> None:
        if len(set(values)) != len(values):
            raise self.fail(field)
