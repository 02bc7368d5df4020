"""``dongled approve``: lets a waiting terminal watch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from dongled.agent.cli.durations import Duration
from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options
from dongled.agent.cli.requests import described


@click.command()
@click.argument("request")
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--for", "seconds", type=Duration(), help="How long it counts: 90s, 30m, 8h, 2d.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, request: str, seconds: int | None) -> None:
    """Let REQUEST watch: an id, or a terminal's name (urn:uuid) or subject, as 'dongled requests' shows them.

    It counts for what was asked, by that certificate. When it has run out, the terminal waits again.
    """
    from dongled.agent.control.client import approve

    path = choice.socket(socket)
    for decided in asyncio.run(approve(path, request, seconds)):
        click.echo("\n".join(described(decided)))
