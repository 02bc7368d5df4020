"""The secrets that the settings name, read so that they can be found and taken out; they are kept nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dongled.agent.units import unit_of
from dongled.config.api import Credential, SecretSource, Settings, secret_sources

# A PEM file with a key and a chain of certificates is the longest.
_MOST = 1 << 17

# Where systemd keeps what it passes (systemd.exec(5)), an operator what is to be passed, and
# dongled-unlock.service what it opened.
PASSED, STORE, OPENED = Path("/run/credentials"), Path("/etc/credstore"), Path("/run/credstore")


@dataclass(frozen=True, slots=True)
class Secrets:
    """``unread`` names those, by their key, that could not be read, so that nothing can be said of them."""

    values: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...]
    unread: tuple[str, ...]


def collect(settings: Settings, instance: str | None) -> Secrets:
    values: list[str] = []
    names: list[str] = []
    unread: list[str] = []
    for name, source in secret_sources(settings):
        found = [text for path in _places(source, instance) if (text := _read(path))]
        values += found
        (names if found else unread).append(name)
    return Secrets(tuple(values), tuple(names), tuple(unread))


def _places(source: SecretSource, instance: str | None) -> Iterator[Path]:
    if not isinstance(source, Credential):
        yield source
        return
    stored = source.name if instance is None else f"{instance}.{source.name}"
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        yield Path(directory) / source.name
    yield PASSED / f"{unit_of(instance)}.service" / source.name
    yield STORE / f"dongled.{stored}"
    yield OPENED / f"dongled-open.{stored}"


def _read(path: Path) -> str | None:
    try:
        # O_NONBLOCK: a FIFO without a writer would hang the open.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(file, _MOST).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(file)
