"""``dongled view``: a terminal in the foreground, to watch a meeting from a shell."""

from __future__ import annotations

from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options


@click.command()
@settings_options
@click.option(
    "--output", metavar="FILE|-", help="Live Matroska to a file, or to standard output for a player."
)
@click.option("--record", type=click.Path(path_type=Path), help="Record to this MKV file.")
@click.option("--snapshot", type=click.Path(path_type=Path), help="Keep the newest picture in this PNG file.")
@click.option("--from", "terminal", metavar="URN", help="Watch only this terminal.")
@click.option("--stream", help="Watch only the stream with this id.")
@click.option("--socket", type=click.Path(path_type=Path), help="Answer 'dongled status' on this socket.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is needed to find a fault.")
@reporting_errors()
def command(
    choice: SettingsChoice,
    output: str | None,
    record: Path | None,
    snapshot: Path | None,
    terminal: str | None,
    stream: str | None,
    socket: Path | None,
    verbose: bool,
) -> None:
    """Join the configured meetings as a viewer and show what may be seen.

    It is a terminal of its own: it refuses an identity that a running daemon holds.
    """
    settings = choice.load()

    from dongled.agent.daemon import Daemon, Viewing
    from dongled.agent.process import run_until_stopped
    from dongled.agent.viewing import ViewSinks

    sinks = ViewSinks(output=output, record=record, snapshot=snapshot, terminal=terminal, stream=stream)
    daemon = Daemon(settings, choice.instance, Viewing(sinks.make, sinks.wants, socket))
    run_until_stopped(daemon.run(), verbose=verbose)
