"""The layers of the settings: built-in < file < environment < flags, merged, with where each came from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dongled.config.errors import ConfigError, Problem

ENVIRONMENT_PREFIX = "DONGLED_"
FILE_LIMIT = 1 << 20

Key = tuple[str | int, ...]


# The lists of tables that drop-ins add to, and the key that names a table of each.
NAMED = {"stream": "id", "meeting": "name"}


def name_in(table: object, key: str) -> str:
    """The name that a table gives itself; empty where it gives none."""
    name = table.get(key) if isinstance(table, dict) else None
    return name if isinstance(name, str) else ""


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


@dataclass(slots=True)
class Layers:
    """The merged tree. ``origins`` maps every leaf's path to its layer; ``texts`` what was given as text."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _dropped_in: bool = False

    def merge(self, values: Mapping[str, Any], origin: str) -> None:
        """Lay a tree over what is there: tables merge, everything else replaces."""
        for key, value in values.items():
            self._put((key,), value, origin)

    def merge_drop_in(self, values: Mapping[str, Any], origin: str) -> None:
        """Like ``merge``, but of a list whose tables have names a table goes over the one of its name.

        A name that is new, or that this drop-in has twice, is another table.
        """
        self._dropped_in = True
        for key, value in values.items():
            name, there = NAMED.get(key), self.tree.get(key)
            if name is None or not isinstance(value, list) or not isinstance(there, list):
                self._put((key,), value, origin)
                continue
            places = {text: index for index, item in enumerate(there) if (text := name_in(item, name))}
            for item in value:
                self._put((key, places.pop(name_in(item, name), len(there))), item, origin)

    def table(self, key: Key) -> str:
        """Its table, as ``[[stream]] camera``, where drop-ins make an index say little; else empty."""
        match key:
            case (str() as kind, int() as index, *_) if self._dropped_in and kind in NAMED:
                name = name_in(self.tree[kind][index], NAMED[kind])
                return f"[[{kind}]] {name}" if name else ""
        return ""

    def put_text(self, key: Key, text: str, origin: str) -> None:
        """Lay one value over what is there; it is TOML where it reads as TOML, else a string."""
        try:
            value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
        except tomllib.TOMLDecodeError:
            value = text
        if self._put(key, value, origin):
            self.texts[key] = text

    def put_value(self, key: Key, value: Any, origin: str) -> None:
        """Lay one value over what is there."""
        self._put(key, value, origin)

    def replace(self, key: Key, value: Any) -> None:
        """Read a value that is there another way; it keeps its origin."""
        place: Any = self.tree
        for part in key[:-1]:
            place = place[part]
        place[key[-1]] = value

    def origin(self, key: Key) -> str:
        """The layer of the nearest value at, above, below or beside this path."""
        for length in range(len(key), 0, -1):
            near = [origin for at, origin in self.origins.items() if at[:length] == key[:length]]
            if near:
                return self.origins.get(key[:length], near[0])
        return ""

    def _put(self, key: Key, value: Any, origin: str) -> bool:
        place: Any = self.tree
        for depth, part in enumerate(key[:-1]):
            place = _child(place, part, {} if isinstance(key[depth + 1], str) else [])
        if not isinstance(place, dict if isinstance(key[-1], str) else list) or (
            isinstance(place, list) and not 0 <= int(key[-1]) <= len(place)
        ):
            text = "no such place: lists are counted from 0 without gaps, and a value has nothing inside"
            self.problems.append(Problem(origin, dotted(key), text))
            return False
        there: Any = None
        if isinstance(place, dict):
            there = place.get(key[-1])
        elif int(key[-1]) < len(place):
            there = place[int(key[-1])]
        if not (isinstance(value, dict) and isinstance(there, dict)):
            self._forget(key)
            if isinstance(place, list) and key[-1] == len(place):
                place.append(None)
            place[key[-1]] = {} if isinstance(value, dict) else value
        self._enter(key, value, origin)
        return True

    def _enter(self, key: Key, value: Any, origin: str) -> None:
        """Lay down what is inside a table or a list of tables; anything else, or nothing, is a leaf."""
        if isinstance(value, dict) and value:
            for inner, inner_value in value.items():
                self._put((*key, inner), inner_value, origin)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                self._enter((*key, index), item, origin)
        else:
            self.origins[key] = origin

    def _forget(self, key: Key) -> None:
        for known in (self.origins, self.texts):
            for at in [at for at in known if at[: len(key)] == key]:
                del known[at]


def _child(place: Any, part: str | int, empty: Any) -> Any:
    if isinstance(place, dict) and isinstance(part, str):
        return place.setdefault(part, empty)
    if isinstance(place, list) and isinstance(part, int) and 0 <= part <= len(place):
        if part == len(place):
            place.append(empty)
        return place[part]
    return None


def read_file(path: Path) -> dict[str, Any]:
    """The TOML of a configuration file, at most 1 MB. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_LIMIT + 1)
    except OSError as error:
        hint = f"`dongled config init --output {path}` writes one to start from"
        raise ConfigError("config-unreadable", f"{path}: {error.strerror}", hint) from error
    if len(raw) > FILE_LIMIT:
        raise ConfigError(
            "config-too-long", f"{path} is longer than {FILE_LIMIT} bytes", "is it the right one?"
        )
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise ConfigError(
            "config-syntax", f"{path} is not UTF-8 text", "TOML is UTF-8: https://toml.io"
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        text = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise ConfigError("config-syntax", f"{path}: {text}", "see https://toml.io for the syntax") from None


def drop_ins(file: Path) -> list[Path]:
    """``conf.d/*.toml`` beside a configuration file, in the order of their names. Raises ConfigError."""
    directory = file.parent / "conf.d"
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        hint = "it holds drop-ins, *.toml; the user that dongled runs as must be able to read it"
        raise ConfigError("config-unreadable", f"{directory}: {error.strerror}", hint) from error
    return [directory / name for name in names if name.endswith(".toml") and not name.startswith(".")]


def from_environment(environ: Mapping[str, str]) -> list[tuple[Key, str, str]]:
    """Path, text and origin of each DONGLED_ variable: ``__`` nests, ``_`` is a hyphen, numbers index."""
    found = []
    for name in sorted(environ, key=_by_index):
        if name.startswith(ENVIRONMENT_PREFIX):
            parts = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", "-").split("--")
            found.append((parse_key(parts), environ[name], f"environment {name}"))
    return found


def parse_key(parts: list[str]) -> Key:
    return tuple(int(part) if part.isascii() and part.isdigit() else part for part in parts)


def _by_index(name: str) -> list[tuple[bool, int, str]]:
    # 10 after 9, so that elements can be appended in order.
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in name.split("__")]
