"""``dongled audit``: the record of who was let in, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

FILES = click.argument(
    "files", metavar="[FILE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)


@click.group()
def command() -> None:
    """Show and verify the record of who was granted what, and who was refused."""


@command.command()
@FILES
@settings_options
@click.option("--known", metavar="SHA256", help="A record's hash, written down earlier: it must be there.")
@reporting_errors()
def verify(choice: SettingsChoice, files: tuple[Path, ...], known: str | None) -> None:
    """Check that nothing was changed, put in, taken out or cut off.

    Without FILE the log of the settings, and its kept head. Write the hash that is shown down elsewhere:
    without one, whoever may write here could have written it all anew.
    """
    from dongled.agent.audit.chain import Broken, verify_directory
    from dongled.agent.audit.chain import verify as verify_files

    found = verify_files(list(files), known) if files else verify_directory(_directory(choice), known)
    if not found.known:
        raise Broken("audit-unknown", f"no record has the hash {known}")
    if not found.head.number:
        click.echo("nothing is recorded")
        return
    click.echo(f"records {found.first} to {found.head.number}, unbroken")
    if found.torn:
        click.echo(f"torn by power cuts, each named by the record after it: {found.torn}")
    for number in found.cut:
        click.echo(f"record {number} says that something before it was gone when the daemon started")
    click.echo(f"the last one's hash: {found.head.sha256}")


@command.command()
@FILES
@settings_options
@click.option(
    "-n", "count", type=click.IntRange(1), default=50, show_default=True, help="How many, the latest."
)
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are.")
@reporting_errors()
def show(choice: SettingsChoice, files: tuple[Path, ...], count: int, as_json: bool) -> None:
    """Show the latest records, oldest first. It does not verify them."""
    from dongled.agent.audit.chain import segments

    records = list(_records(list(files) or segments(_directory(choice))))[-count:]
    for record in records:
        click.echo(json.dumps(record) if as_json else _line(record))


def _directory(choice: SettingsChoice) -> Path:
    settings = choice.load_layers().settings
    return settings.audit.directory or settings.state.directory


def _records(files: list[Path]) -> Iterator[dict[str, Any]]:
    from dongled.agent.audit.chain import read

    for path in files:
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                yield read(line)
            except (ValueError, RecursionError):
                yield {"event": "TORN", "line": line.decode("ascii", "backslashreplace")}


def _line(record: dict[str, Any]) -> str:
    """One line, with nothing in it that a terminal would obey."""
    first = [str(record.get("time", ""))[:19], str(record.get("event"))]
    rest = [
        f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in record.items()
        if key not in ("n", "prev", "time", "clock", "event") and value not in ("", [])
    ]
    text = "  ".join([*first, *rest])
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
