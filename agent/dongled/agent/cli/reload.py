"""``dongled reload``: have the daemon read its configuration again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options


@click.command()
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None) -> None:
    """Have the daemon read its configuration again, as SIGHUP does.

    Meetings of which nothing changed go on as they are. If the new configuration is wrong the daemon keeps
    the old one, and this command says what is wrong and fails.
    """
    from dongled.agent.control.client import reload
    from dongled.agent.errors import AgentError
    from dongled.config.api import ConfigError

    # The daemon is to hear of a wrong one, too.
    path = choice.socket(socket)
    try:
        done = asyncio.run(reload(path))
    except AgentError as error:
        if not error.reason.startswith("config-"):
            raise
        raise ConfigError(error.reason, str(error), error.hint) from None
    for title, names in (("kept", done.kept), ("begun", done.begun), ("ended", done.ended)):
        for name in names:
            click.echo(f"{title:<6} {name}")
    if done.restart:
        click.echo(f"warning: not in effect before a restart: {', '.join(done.restart)}", err=True)
