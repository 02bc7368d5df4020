"""The options by which every command that needs settings is told which."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dongled.config.api import Loaded, Settings


@dataclass(frozen=True, slots=True)
class SettingsChoice:
    """Which settings the command line asked for. Loading imports pydantic, so it is left to the command."""

    path: Path | None
    instance: str | None
    overrides: dict[str, str]

    def load(self) -> Settings:
        """Settings to run with. Raises ConfigError (exit code 78)."""
        from dongled.config.api import load

        return load(self.path, os.environ, self.overrides, self.instance)

    def load_layers(self) -> Loaded:
        """Settings with the layer of each value; nothing need be configured. Raises ConfigError."""
        from dongled.config.api import load_layers

        return load_layers(self.path, os.environ, self.overrides, self.instance)

    def socket(self, given: Path | None = None) -> Path:
        """Where to ask the daemon, also while the settings are wrong. Raises ConfigError."""
        from dongled.config.api import find_socket

        return given or find_socket(self.path, os.environ, self.overrides, self.instance)

    def files(self) -> tuple[Path, ...]:
        """The file and its drop-ins, as far as they can be seen. Raises ConfigError for a wrong name."""
        from dongled.config.api import ConfigError, default_path, drop_ins

        file = self.path or default_path(self.instance)
        try:
            return (file, *drop_ins(file)) if file.exists() else ()
        except (ConfigError, OSError):
            return (file,)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --config, --instance and --set; it receives them as ``choice: SettingsChoice``."""

    @click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Configuration file instead of /etc/dongled/dongled.toml.",
    )
    @click.option("--instance", metavar="NAME", help="Use /etc/dongled/NAME.toml and /run/dongled/NAME/.")
    @click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override one setting, by its dotted key.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, path: Path | None, instance: str | None, settings: tuple[str, ...], **kwargs: Any
    ) -> Any:
        overrides = {}
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals or not key.strip():
                raise click.BadParameter("give KEY=VALUE", param_hint="--set")
            overrides[key.strip()] = value.strip()
        return command(*args, choice=SettingsChoice(path, instance, overrides), **kwargs)

    return wrapped
