"""``dongled run``: the daemon."""

from __future__ import annotations

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options


@click.command()
@settings_options
@click.option("-v", "--verbose", is_flag=True, help="Log what is needed to find a fault.")
@reporting_errors()
def command(choice: SettingsChoice, verbose: bool) -> None:
    """Join the configured meetings, publish and subscribe, until stopped."""
    settings = choice.load()

    from dongled.agent.daemon import Daemon
    from dongled.agent.process import run_until_stopped

    daemon = Daemon(settings, choice.instance, load=choice.load)
    run_until_stopped(daemon.run(), verbose=verbose, hangup=daemon.hangup)
