"""From layers to settings: merge, validate, cross-check, and tell every problem at once."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dongled.config.checks import cross_check, file_check
from dongled.config.errors import ConfigError, Problem
from dongled.config.layers import Key, Layers, dotted, drop_ins, from_environment, parse_key, read_file
from dongled.config.schema.settings import Settings

DIRECTORY = Path("/etc/dongled")
RUN_DIRECTORY = Path("/run/dongled")
STATE_DIRECTORY = Path("/var/lib/dongled")
DEFAULT = "default"
FLAG = "flag"
INSTANCE = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True)
class Value:
    """A setting as it took effect: dotted key, plain value, and the layer that it came from."""

    key: str
    value: Any
    layer: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, the file that they were read from (None: there is none) with its drop-ins, and the
    layer of each value."""

    settings: Settings
    file: Path | None
    drop_ins: tuple[Path, ...]
    values: tuple[Value, ...]


def load(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    instance: str | None = None,
    directory: Path = DIRECTORY,
) -> Settings:
    """The settings to run with. At least one meeting is configured.

    ``path`` None means ``directory``/dongled.toml, or ``directory``/INSTANCE.toml. ``overrides`` maps
    dotted keys to values, or to text as a flag gives it. Raises ConfigError.
    """
    loaded = load_layers(path, env, overrides, instance, directory)
    if not loaded.settings.meeting:
        default = path or default_path(instance, directory)
        missing = (
            "there is no configuration" if loaded.file is None else f"{loaded.file}: no meeting is configured"
        )
        raise ConfigError(
            "no-configuration" if loaded.file is None else "no-meeting",
            missing,
            f"write one with `dongled config init --output {default}` and fill it in"
            if loaded.file is None
            else "add a [[meeting]]; `dongled config init` shows one",
        )
    return loaded.settings


def load_layers(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    instance: str | None = None,
    directory: Path = DIRECTORY,
) -> Loaded:
    """Like ``load``, but a configuration without a file or a meeting is fine. Raises ConfigError."""
    layers, file, base = _layers(path, env, overrides, instance, directory)
    added = () if file is None else tuple(drop_ins(file))
    settings = _validate(layers, base)
    return Loaded(settings, file, added, tuple(_values(settings, layers)))


def find_socket(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    instance: str | None = None,
    directory: Path = DIRECTORY,
) -> Path:
    """The control socket: a daemon that keeps its settings can be asked while the file's are wrong.

    Raises ConfigError where no socket is there by which to ask.
    """
    try:
        return load_layers(path, env, overrides, instance, directory).settings.control.socket
    except ConfigError as error:
        default_path(instance, directory)
        try:
            layers, _, base = _layers(path, env, overrides, instance, directory)
            control = layers.tree.get("control")
            socket = control.get("socket") if isinstance(control, dict) else None
            settings, _ = _model({"control": {} if socket is None else {"socket": socket}}, base)
        except ConfigError:
            settings = None
        found = default_socket(instance) if settings is None else settings.control.socket
        if not found.exists():
            raise error from None
        return found


def _layers(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    instance: str | None,
    directory: Path,
) -> tuple[Layers, Path | None, Path]:
    """All layers, the file that was read, and where relative paths begin. Raises ConfigError."""
    layers = Layers()
    if instance is not None:
        default_path(instance, directory)
        own = {
            "control": {"socket": str(default_socket(instance))},
            "state": {"directory": str(STATE_DIRECTORY / instance)},
        }
        layers.merge(own, f"instance {instance}")
    file = path or default_path(instance, directory)
    # A file that was asked for must be there; the usual one need not.
    found = path is not None or instance is not None or file.exists()
    if found:
        layers.merge(read_file(file), str(file))
        for drop_in in drop_ins(file):
            layers.merge_drop_in(read_file(drop_in), str(drop_in))
    for key, text, origin in from_environment(env):
        layers.put_text(key, text, origin)
    for name, value in overrides.items():
        key = parse_key(name.split("."))
        if isinstance(value, str):
            layers.put_text(key, value, FLAG)
        else:
            layers.put_value(key, value, FLAG)
    return layers, file if found else None, file.absolute().parent if found else Path.cwd()


def default_path(instance: str | None, directory: Path = DIRECTORY) -> Path:
    """Where the configuration of this instance lies. Raises ConfigError for a name that is none."""
    if instance is None:
        return directory / "dongled.toml"
    if not INSTANCE.fullmatch(instance) or instance == "dongled":
        raise ConfigError(
            "instance-name",
            "an instance's name is 1 to 32 lower-case letters, digits and hyphens, and not `dongled`",
            "choose another --instance",
        )
    return directory / f"{instance}.toml"


def default_socket(instance: str | None) -> Path:
    """Where the control socket of this instance is, unless its configuration says otherwise."""
    return RUN_DIRECTORY / (instance or "") / "control.sock"


def _validate(layers: Layers, base: Path) -> Settings:
    settings, errors = _model(layers.tree, base)
    # A number was meant as text where text is wanted: DONGLED_TERMINAL__NAME=7.
    again = [key for key in (_within(layers.tree, e["loc"]) for e in errors) if key in layers.texts]
    for key in again:
        layers.replace(key, layers.texts[key])
    if again:
        settings, errors = _model(layers.tree, base)
    problems = [*layers.problems, *_problems(errors, layers)]
    told = {problem.key for problem in problems}
    findings = list(cross_check(layers.tree))
    if settings is not None:
        findings += file_check(settings)
    problems += [
        Problem(layers.origin(key), dotted(key), text, layers.table(key))
        for key, text in findings
        if dotted(key) not in told
    ]
    if problems or settings is None:
        raise ConfigError.of(problems)
    return settings


def _model(tree: dict[str, Any], base: Path) -> tuple[Settings | None, list[Any]]:
    try:
        # JSON's strict mode takes no number for a string and no string for a number, but makes tuples
        # and paths, which Python's does not.
        text = json.dumps(tree, default=str)
        return (
            Settings.model_validate_json(
                text, strict=True, context={"base": base}, by_alias=True, by_name=False
            ),
            [],
        )
    except ValidationError as error:
        # Without inputs: a secret in the wrong place must not be shown.
        return None, list(error.errors(include_url=False, include_input=False, include_context=False))


def _problems(errors: list[Any], layers: Layers) -> Iterator[Problem]:
    """One problem a key; the branches of a union are told together."""
    texts: dict[Key, list[str]] = {}
    for error in errors:
        key = _within(layers.tree, error["loc"], missing=error["type"] == "missing")
        text = _unknown(key) if error["type"] == "extra_forbidden" else str(error["msg"])
        known = texts.setdefault(key, [])
        if text not in known:
            known.append(text)
    for key, choices in texts.items():
        text = "; or ".join(choices)
        text = "is missing" if text == "Field required" else text
        yield Problem(layers.origin(key), dotted(key), text, layers.table(key))


def _within(tree: Any, loc: tuple[str | int, ...], missing: bool = False) -> Key:
    """The part of pydantic's location that is in the data: the rest names branches of a union."""
    key: list[str | int] = []
    for part in loc:
        in_table = isinstance(tree, dict) and part in tree
        in_list = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if in_table or in_list:
            tree = tree[part]
        elif missing and part == loc[-1]:
            return (*key, part)
        else:
            break
        key.append(part)
    return tuple(key)


def _unknown(key: Key) -> str:
    """What to say of a key that is not known: is it a secret, a slip, or something else?"""
    names = [field.alias or name for name, field in _model_at(key[:-1]).model_fields.items()]
    name = str(key[-1])
    if f"{name}-file" in names and f"{name}-credential" in names:
        return f"secrets are not written into a configuration; use {name}-file or {name}-credential"
    near = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1)
    return "unknown key; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}")


def _model_at(key: Key) -> type[BaseModel]:
    model: type[BaseModel] = Settings
    for part in key:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = inner_model(fields[part]) or model
    return model


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, itself, optionally or in a list."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _values(settings: Settings, layers: Layers) -> Iterator[Value]:
    def walk(value: Any, key: Key) -> Iterator[Value]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, (*key, name))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield from walk(item, (*key, index))
        else:
            yield Value(dotted(key), value, layers.origins.get(key, DEFAULT))

    yield from walk(settings.model_dump(mode="json", by_alias=True), ())
