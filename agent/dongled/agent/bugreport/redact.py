"""Takes secrets out of text: those that the settings know, however spelt, and what looks like one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

INSTEAD = "[redacted]"

# Shorter ones, PINs, are looked for as words of their own: in a counter they would be told by their absence.
_LONG = 8
_LEAST = 4  # characters, of the lines of a secret of several

_PATTERNS = tuple(
    (re.compile(pattern, flags), instead)
    for pattern, instead, flags in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", INSTEAD, re.DOTALL),
        (r"(?<=://)[^/\s@]+@", f"{INSTEAD}@", 0),  # RFC 3986, 3.2.1: user information
        (r"(pin-value=)[^;&\s\"']+", rf"\1{INSTEAD}", re.IGNORECASE),  # RFC 7512, 2.4
        (r"\b(bearer|basic) +[\w.~+/=-]+", rf"\1 {INSTEAD}", re.IGNORECASE),  # RFC 9110, 11.4
        # systemd.exec(5): what an operator passes to the unit besides.
        (r"^(\s*(?:Environment|SetCredential(?:Encrypted)?)=).*$", rf"\1{INSTEAD}", re.MULTILINE),
    )
)


class Redactor:
    """``secrets`` are values; one of several lines, a PEM file, is looked for line by line too."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # The longest first, so that no part of one is left.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._secrets = re.compile("|".join(map(_pattern, ordered)), re.IGNORECASE) if ordered else None

    def text(self, text: str) -> str:
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return self._secrets.sub(INSTEAD, text) if self._secrets else text

    def data(self, value: Any) -> Any:
        """The same of every string in JSON's data, names too. Numbers stay: they are counts and times."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(name)): self.data(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self.data(inner) for inner in value]
        return value


def _forms(secret: str) -> Iterator[str]:
    lines = [line.strip() for line in secret.splitlines() if not line.startswith("-----")]
    for value in {secret.strip(), *(line for line in lines if len(line) >= _LEAST)} - {""}:
        raw = value.encode()
        yield from (value, quote(value, safe=""), json.dumps(value)[1:-1], raw.hex())
        # Wherever in something longer it stands, but for its ends.
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + raw).decode()
            begin, end = (0, 2, 3)[shift], len(encoded) - (0, 3, 2)[(shift + len(raw)) % 3]
            if len(encoded[begin:end]) >= _LONG:
                yield from (encoded[begin:end], encoded[begin:end].replace("+", "-").replace("/", "_"))


def _pattern(form: str) -> str:
    if len(form) >= _LONG:
        return re.escape(form)
    word = r"\d" if form.isdigit() else r"[0-9A-Za-z]"
    return f"(?<!{word}){re.escape(form)}(?!{word})"
