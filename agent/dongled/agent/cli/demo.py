"""``dongled demo``: an encrypted meeting on one machine, and an eavesdropper in it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(2, 3600), default=15, show_default=True, help="How long to meet."
)
@click.option("--report", type=click.Path(path_type=Path), help="Where to write the report, as JSON.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-out"),
    show_default=True,
    help="Folder for pictures and report.",
)
@reporting_errors()
def command(seconds: float, report: Path | None, out: Path) -> None:
    """Two terminals with keys on SoftHSM tokens, a real Janus between them, and an eavesdropper.

    Everything runs in a network namespace of its own and ends with this command. The exit status says
    whether every claim held.
    """
    from dongled.agent.demo import namespace

    if not namespace.inside():
        namespace.enter([sys.executable, *sys.orig_argv[1:]])

    from dongled.agent.demo.run import run_demo

    with tempfile.TemporaryDirectory(prefix="dongled-demo-") as directory:
        if not run_demo(Path(directory), seconds, report, out):
            sys.exit(1)
