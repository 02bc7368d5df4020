"""``dongled config``: write, check and show the settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options
from dongled.agent.errors import AgentError

if TYPE_CHECKING:
    from dongled.config.api import Loaded, SettingsWarning


@click.group(name="config")
def command() -> None:
    """Write, check and show the settings."""


@command.command()
@click.option(
    "--output", type=click.Path(path_type=Path), help="File to write; one that is there is left alone."
)
@reporting_errors()
def init(output: Path | None) -> None:
    """Print a commented configuration to start from."""
    from dongled.config.template import template

    if output is None:
        click.echo(template(), nl=False)
        return
    try:
        # "x": what an operator wrote is never overwritten.
        with output.open("x") as file:
            file.write(template())
    except FileExistsError:
        raise AgentError("file-exists", f"{output} is already there", "choose another --output") from None
    except OSError as error:
        raise AgentError(
            "file-unwritable", f"{output}: {error.strerror}", "choose another --output"
        ) from error
    click.echo(f"{output} written; fill it in and run `dongled config check --config {output}`", err=True)


@command.command()
@settings_options
@reporting_errors()
def check(choice: SettingsChoice) -> None:
    """Check the settings; every problem is shown, and the exit status is 78 if there is one."""
    from dongled.config.api import settings_warnings

    settings = choice.load()
    _warn(settings_warnings(settings))
    click.echo("the configuration is valid")


@command.command()
@click.option("--effective", is_flag=True, help="Show defaults too, not only what some layer sets.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@reporting_errors()
def show(effective: bool, as_json: bool, choice: SettingsChoice) -> None:
    """Show the settings, each with the layer that it came from."""
    from dongled.config.api import settings_warnings

    loaded = choice.load_layers()
    warnings = settings_warnings(loaded.settings)
    if as_json:
        click.echo(json.dumps(report(loaded, warnings, effective), indent=2))
        return
    for value in loaded.values:
        if effective or value.layer != "default":
            click.echo(f"{value.key} = {json.dumps(value.value)}  # {value.layer}")
    _warn(warnings)


@command.command()
@reporting_errors()
def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors and for what generates configurations."""
    from dongled.config.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def report(loaded: Loaded, warnings: list[SettingsWarning], effective: bool) -> dict[str, object]:
    """The settings, each with its layer, as JSON's data. Secrets are never settings."""
    return {
        "file": os.fspath(loaded.file) if loaded.file else None,
        "drop-ins": [os.fspath(path) for path in loaded.drop_ins],
        "settings": [
            {"key": value.key, "value": value.value, "layer": value.layer}
            for value in loaded.values
            if effective or value.layer != "default"
        ],
        "warnings": [{"id": w.id, "text": w.text, "hint": w.hint} for w in warnings],
    }


def _warn(warnings: list[SettingsWarning]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning.text} [{warning.id}]; {warning.hint}", err=True)
