"""``dongled status``: what the daemon says of itself."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.status import DaemonStatus

# ECMA-48: cursor to the first place (CUP); erase to the end of the line (EL), of the screen (ED).
HOME, LINE_END, SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch an object a line.")
@click.option("--watch", is_flag=True, help="Again and again, until interrupted.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="For --watch.",
)
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, as_json: bool, watch: bool, every: float) -> None:
    """Show the token, the certificates, the meetings, their streams, and what is wrong."""
    path = choice.socket(socket)
    if not watch:
        asyncio.run(_once(path, as_json))
        return
    try:
        asyncio.run(_watch(path, as_json, every))
    except KeyboardInterrupt:
        click.echo()
    except BrokenPipeError:
        # Whoever read it has seen enough; Python would complain of it once more at its end.
        sys.stderr.close()


async def _once(path: Path, as_json: bool) -> None:
    from dongled.agent.control.client import fetch_status

    status = await fetch_status(path)
    click.echo(_json(status, indent=2) if as_json else _page(status))


async def _watch(path: Path, as_json: bool, every: float) -> None:
    """On a terminal one page in the same place; else a line each time."""
    from dongled.agent.cli.show_status import brief
    from dongled.agent.control.client import fetch_status
    from dongled.agent.errors import AgentError

    page = sys.stdout.isatty() and not as_json
    met = False
    while True:
        try:
            status = await fetch_status(path)
        except AgentError as error:
            # One that is restarted comes back; one that was never there is a mistake.
            if not met or error.reason == "not-permitted":
                raise
            if page:
                _draw(f"{error} [{error.reason}]")
            else:
                click.echo(f"{error} [{error.reason}]", err=True)
        else:
            met = True
            if page:
                _draw(_page(status))
            else:
                click.echo(_json(status) if as_json else brief(status))
        await asyncio.sleep(every)


def _draw(page: str) -> None:
    height = shutil.get_terminal_size().lines
    shown = page.splitlines()[: height - 1]
    click.echo(HOME + "".join(f"{line}{LINE_END}\n" for line in shown) + SCREEN_END, nl=False)


def _page(status: DaemonStatus) -> str:
    from dongled.agent.cli.show_status import lines

    return "\n".join(lines(status, shutil.get_terminal_size((80, 24)).columns))


def _json(status: DaemonStatus, indent: int | None = None) -> str:
    from dataclasses import asdict

    return json.dumps(asdict(status), indent=indent)
