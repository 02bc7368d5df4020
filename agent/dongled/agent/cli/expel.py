"""``dongled expel``: a moderator sends a terminal out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options


@click.command()
@click.argument("peer")
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--reason", default="", help="Why, for the others' logs: one line.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, peer: str, reason: str) -> None:
    """Expel PEER, so that nobody gives it keys or watches it for twelve hours.

    PEER is a terminal's name (urn:uuid), subject or session, as 'dongled status' shows them. This terminal's
    certificate needs the moderator role.
    """
    from dongled.agent.control.client import expel

    path = choice.socket(socket)
    for meeting in asyncio.run(expel(path, peer, reason)):
        click.echo(f"expelled from {meeting}")
