"""The settings as JSON Schema, for whoever writes or checks them without dongled. https://json-schema.org"""

from __future__ import annotations

from typing import Any

from dongled.config.schema.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Of a whole configuration, file and drop-ins together, with each key's description and limits.

    `dongled config check` knows more: what keys say of each other, and of files.
    """
    schema = _without_null(Settings.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": DIALECT, **schema, "title": "Settings of dongled"}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: a key that may be left out is one that is not required."""
    plain: dict[str, Any] = {}
    for word, value in schema.items():
        match word:
            case "properties" | "$defs":
                plain[word] = {name: _without_null(inner) for name, inner in value.items()}
            case "items":
                plain[word] = _without_null(value)
            case "anyOf":
                choices = [_without_null(choice) for choice in value if choice != {"type": "null"}]
                plain |= choices[0] if len(choices) == 1 else {word: choices}
            case "title":
                pass  # the key once more
            case "default" if value is None:
                pass
            case _:
                plain[word] = value
    return plain
