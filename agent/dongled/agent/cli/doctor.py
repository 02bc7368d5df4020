"""``dongled doctor``: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.doctor.api import Result
    from dongled.agent.doctor.case import TerminalCase


@click.command()
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", "ids", multiple=True, metavar="ID", help="Run only this check.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, as_json: bool, ids: tuple[str, ...]) -> None:
    """Look for what is wrong with this terminal, and say what to do.

    Nothing is changed, and no PIN is tried. A running daemon is asked, and left alone otherwise. The exit
    status is 0, 3 for a warning, 4 where something failed, 5 where no meeting can work.
    """
    from dongled.agent.doctor.show import as_json as to_json
    from dongled.agent.doctor.show import exit_status

    results = asyncio.run(_examine(choice, socket, ids, show=not as_json))
    if as_json:
        click.echo(json.dumps(to_json(results), indent=2))
    sys.exit(exit_status(results))


async def _examine(
    choice: SettingsChoice, socket: Path | None, ids: tuple[str, ...], *, show: bool
) -> list[Result]:
    from dongled.agent.doctor.checks import CHECKS
    from dongled.agent.doctor.examination import examine
    from dongled.agent.doctor.show import lines, summary

    unknown = set(ids) - {check.id for check in CHECKS}
    if unknown:
        known = ", ".join(check.id for check in CHECKS)
        raise click.BadParameter(f"no such check: {', '.join(sorted(unknown))}; there are {known}")
    case = await case_of(choice, socket)
    results = []
    async for result in examine([check for check in CHECKS if not ids or check.id in ids], case):
        results.append(result)
        if show:
            for line in lines(result):
                click.echo(line)
    if show:
        click.echo(summary(results))
    return results


async def case_of(choice: SettingsChoice, socket: Path | None) -> TerminalCase:
    """The terminal that the command line means, whether its settings can be used or not."""
    from dongled.agent.doctor.case import TerminalCase, asked
    from dongled.config.api import ConfigError, ControlSettings

    try:
        settings, trouble = choice.load(), None
    except ConfigError as error:
        settings, trouble = None, error
    try:
        path = choice.socket(socket)
    except ConfigError:
        path = ControlSettings().socket
    case = TerminalCase(settings, trouble, files=choice.files(), instance=choice.instance)
    return await asked(case, path)
