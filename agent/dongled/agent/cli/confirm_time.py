"""``dongled confirm-time``: vouch for a terminal's clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options


@click.command()
@click.argument("time")
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, time: str) -> None:
    """Say that it is TIME now (such as 2027-03-01T12:34Z), where trust.time-source is "operator".

    Read it from another clock than this terminal's: what is compared is whether the two agree, within five
    minutes. It counts until the daemon is restarted or the clock is set.
    """
    from dongled.agent.control.client import confirm_time

    path = socket or choice.load_layers().settings.control.socket
    click.echo(f"the time is believed: {asyncio.run(confirm_time(path, time))}")
