"""The commented configuration that `dongled config init` writes, made from the schema."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dongled.config.base import Extra, Sample
from dongled.config.load import inner_model
from dongled.config.schema.settings import Settings

WIDTH = 110
HEADER = """\
# Settings of dongled. `dongled config check` checks them, `dongled config show --effective` shows what took
# effect. A line `#key = value` shows a default or an example. Every key can be set by the environment too,
# DONGLED_TOKEN__PIN_FILE for token.pin-file, and by --set token.pin-file=PATH; later layers win.
# Relative paths are taken from this file's directory. Secrets are never written here, only where they are."""


def template() -> str:
    """A whole configuration as TOML text; what has to be filled in is not commented out."""
    return "\n".join([HEADER, *_tables(Settings, "", active=True)]) + "\n"


def _tables(model: type[BaseModel], at: str, *, active: bool) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        if inner is None:
            continue
        many = get_origin(field.annotation) is tuple
        key = f"{at}{field.alias or name}"
        # Lists inside a section are extras; those at the top are what the daemon is for.
        extra = any(isinstance(marker, Extra) for marker in field.metadata)
        shown = active and not (many and at) and not extra
        yield ""
        yield from _comment(inner.__doc__ or "")
        header = f"[[{key}]]" if many else f"[{key}]"
        yield header if shown else f"#{header}"
        yield from _keys(inner, active=shown)
        yield from _tables(inner, f"{key}.", active=shown)


def _keys(model: type[BaseModel], *, active: bool) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if inner_model(field) is not None:
            continue
        sample = next((m for m in field.metadata if isinstance(m, Sample)), None)
        value = sample.value if sample else field.default
        yield from _comment(field.description or "")
        mark = "" if active and sample and sample.active else "#"
        yield f"{mark}{field.alias or name} = {_toml(value)}{_limits(field)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    # JSON's strings, numbers, booleans and arrays are TOML's (https://toml.io/en/v1.0.0).
    return json.dumps(value, default=lambda path: str(path) if isinstance(path, Path) else None)


def _limits(field: FieldInfo) -> str:
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    return f"  # {low} to {high}" if low is not None and high is not None else ""
