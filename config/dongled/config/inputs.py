"""The files that settings name, and where their secrets are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from dongled.config.base import Input
from dongled.config.layers import Key, dotted
from dongled.config.schema.settings import Settings
from dongled.config.secrets import Credential, SecretSource


def inputs(settings: Settings) -> Iterator[tuple[Key, Path, bool]]:
    """Every file that is to be read, by its key, and whether it holds a secret."""
    for key, value, marker in _fields(settings, ()):
        paths = value if isinstance(value, tuple) else (value,)
        if marker is not None:
            yield from ((key, path, marker.secret) for path in paths if path is not None)


def secret_sources(settings: Settings) -> list[tuple[str, SecretSource]]:
    """Where each secret that the settings name is, by its dotted key."""
    files: list[tuple[str, SecretSource]] = [
        (dotted(key), path) for key, path, secret in inputs(settings) if secret
    ]
    return files + [
        (dotted(key), Credential(value))
        for key, value, _ in _fields(settings, ())
        if str(key[-1]).endswith("-credential") and isinstance(value, str)
    ]


def _fields(value: object, key: Key) -> Iterator[tuple[Key, object, Input | None]]:
    """Every field below, of every section, with its value and its marker."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _fields(item, (*key, index))
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner, at = getattr(value, name), (*key, field.alias or name)
            marker = next((m for m in field.metadata if isinstance(m, Input)), None)
            yield at, inner, marker
            if marker is None:
                yield from _fields(inner, at)
