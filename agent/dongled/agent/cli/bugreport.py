"""``dongled bugreport``: an archive for whoever is to find a fault."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.bugreport.archive import Report


@click.command()
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--output", type=click.Path(path_type=Path), help="The archive, .tar.gz; it must not be there.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, output: Path | None) -> None:
    """Write an archive with what is needed to find a fault, and without a secret.

    It holds what `dongled doctor`, `dongled status` and `dongled config show` say, the service's log and
    unit, and versions. The secrets that the settings name are searched for and taken out; where one cannot be
    read, log and unit are left out: call it as root. Names of terminals, meetings and servers stay.
    """
    from dongled.agent.bugreport.archive import check_new, write

    now = datetime.now(UTC)
    path = output or Path(f"dongled-bugreport-{now:%Y%m%dT%H%M%S}.tar.gz")
    check_new(path)
    report = asyncio.run(_collect(choice, socket))
    write(report, path, now)
    for name, why in report.left_out.items():
        click.echo(f"without {name}: {why}", err=True)
    click.echo(str(path))


async def _collect(choice: SettingsChoice, socket: Path | None) -> Report:
    from dataclasses import asdict

    from dongled.agent.bugreport import parts
    from dongled.agent.bugreport.archive import Report
    from dongled.agent.bugreport.secrets import Secrets, collect
    from dongled.agent.cli.doctor import case_of
    from dongled.agent.doctor.checks import CHECKS
    from dongled.agent.doctor.examination import examine
    from dongled.agent.doctor.show import as_json
    from dongled.agent.units import unit_of

    case = await case_of(choice, socket)
    unknown = Secrets((), (), ("the settings",))
    report = Report(unknown if case.settings is None else collect(case.settings, choice.instance))
    report.add_data("versions.json", parts.versions())
    report.add_data("settings.json", _settings(choice))
    report.add_data("doctor.json", as_json([result async for result in examine(CHECKS, case)]))
    if case.daemon is None:
        report.left_out["status.json"] = f"{case.unasked} [{case.unasked.reason}]" if case.unasked else ""
    else:
        pid = case.daemon.pid
        report.add_data("status.json", asdict(case.daemon))
        report.add_text("process.txt", lambda: parts.process(pid))
    unit = f"{unit_of(choice.instance)}.service"
    report.add_text("journal.txt", lambda: parts.journal(unit))
    report.add_text("unit.txt", lambda: parts.unit_files(unit))
    return report


def _settings(choice: SettingsChoice) -> object:
    from dongled.agent.cli.config import report
    from dongled.config.api import ConfigError, settings_warnings

    try:
        loaded = choice.load_layers()
    except ConfigError as error:
        return {"error": str(error), "reason": error.reason}
    return report(loaded, settings_warnings(loaded.settings), effective=True)
