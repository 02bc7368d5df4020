"""``dongled install-service``: units for a dongled that no Debian package installed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors


@click.command(name="install-service")
@click.option("--instance", metavar="NAME", help="Say how to start, or stop, this instance.")
@click.option("--user", default="dongled", show_default=True, help="User to run as.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    show_default=True,
    help="Install below this directory.",
)
@click.option("--remove", is_flag=True, help="Remove what was installed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@reporting_errors()
def command(instance: str | None, user: str, root: Path, remove: bool, dry_run: bool) -> None:
    """Install the systemd units and what belongs to them, for a dongled from pip, uv or pipx.

    Manual pages and completion for bash, zsh and fish come along. Nothing is started, and by
    --remove nothing stopped: what is left to do is printed.
    """
    from dongled.agent import units
    from dongled.agent.cli import help_files
    from dongled.agent.cli.main import main
    from dongled.config.api import default_path

    default_path(instance)
    files = units.files(Path(sys.argv[0]).absolute(), user) | help_files.files(main)
    done = (
        units.remove(root, files, dry_run=dry_run) if remove else units.install(root, files, dry_run=dry_run)
    )
    verb = "removed" if remove else "written"
    verb = f"would be {verb}" if dry_run else verb
    manual = root / help_files.MANUAL
    for path in (each for each in done if each.parent != manual):
        click.echo(f"{path} {verb}")
    if pages := sum(path.parent == manual for path in done):
        click.echo(f"{manual}: {pages} manual pages {verb}")
    if not done:
        click.echo("nothing to do")
    if not dry_run and (done or not remove):
        click.echo("Now, as root:")
        for line in units.left_to_undo(instance) if remove else units.left_to_do(instance):
            click.echo(f"    {line}")
