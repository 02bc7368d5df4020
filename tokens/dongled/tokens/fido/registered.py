"""Whose touch counts: the files that `presence.credentials` names. Nothing in them is secret."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dongled.tokens.errors import TokenError
from dongled.tokens.fido.presence import key_of
from dongled.tokens.fido.vault import NAME

FORMAT = 1
MOST_PEOPLE = 256
MOST_BYTES = 1 << 18
_MOST_CREDENTIAL = 1023
_HEX = "[0-9a-f]"
_TERMINAL = re.compile(f"urn:uuid:{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}")


@dataclass(frozen=True, slots=True)
class Registration:
    """``name`` of a person's key, the one terminal (``urn:uuid:...``) at which it counts, and its credential.

    ``public_key`` is COSE, ``count`` the key's signature counter when it was registered.
    """

    name: str
    terminal: str
    credential: bytes
    public_key: bytes
    count: int


def encode(people: Sequence[Registration]) -> str:
    found = [
        {name.replace("_", "-"): _text(value) for name, value in asdict(each).items()} for each in people
    ]
    return json.dumps({"format": FORMAT, "people": found}, indent=1) + "\n"


def parse(data: bytes, what: str) -> list[Registration]:
    """``what`` is the file's name. Raises TokenError ``presence-file`` for whatever is amiss."""
    try:
        content = json.loads(data) if len(data) <= MOST_BYTES else {}
        if set(content) != {"format", "people"} or content["format"] != FORMAT:
            raise ValueError
        people = [
            _registration(**{k.replace("-", "_"): v for k, v in row.items()}) for row in content["people"]
        ]
        require_distinct(people)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise TokenError(
            "presence-file",
            f"{what} does not say whose touch counts",
            "`dongled presence register` writes such files",
        ) from None
    return people


def require_fit(name: str, terminal: str) -> None:
    """Raises TokenError."""
    if not NAME.fullmatch(name):
        raise TokenError(
            "fido-name", f"{name!r} is no name for a key", "letters, digits, spaces and ._-, up to 32"
        )
    if not _TERMINAL.fullmatch(terminal):
        raise TokenError(
            "presence-terminal", f"{terminal!r} is no terminal", "urn:uuid:..., as its certificate says"
        )


def require_room(people: Sequence[Registration]) -> None:
    """For one more of them in a file. Raises TokenError."""
    if len(people) >= MOST_PEOPLE:
        raise TokenError(
            "presence-full",
            f"{len(people)} keys count already",
            "`dongled presence remove` those that no longer should",
        )


def require_distinct(people: Sequence[Registration]) -> None:
    """A credential is one person's at one terminal. Raises ValueError."""
    if len(people) > MOST_PEOPLE or len({each.credential for each in people}) != len(people):
        raise ValueError


def _registration(name: str, terminal: str, credential: str, public_key: str, count: int) -> Registration:
    found = Registration(name, terminal, _octets(credential), _octets(public_key), count)
    fit = NAME.fullmatch(name) and _TERMINAL.fullmatch(terminal) and type(count) is int
    if not fit or not 0 <= count < 1 << 32 or not 0 < len(found.credential) <= _MOST_CREDENTIAL:
        raise ValueError
    key_of(found.public_key)
    return found


def _text(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _octets(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
