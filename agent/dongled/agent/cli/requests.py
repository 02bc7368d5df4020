"""``dongled requests``: who waits for the operator's word, and what it was."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.durations import shown
from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.status import RequestStatus


@click.command()
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, as_json: bool) -> None:
    """Show who asks to watch, where authorizer.kind is "operator"."""
    from dataclasses import asdict

    from dongled.agent.control.client import fetch_requests

    path = choice.socket(socket)
    requests = asyncio.run(fetch_requests(path))
    if as_json:
        click.echo(json.dumps([asdict(request) for request in requests], indent=2))
        return
    for request in requests:
        for line in described(request):
            click.echo(line)
    if not requests:
        click.echo("nobody asks")


def described(request: RequestStatus) -> list[str]:
    """Two lines, and a third for its evidence."""
    if request.state == "pending":
        state = f"waits for {shown(request.age)}"
    else:
        state = f"{request.state} by {request.by}, {shown(request.left or 0)} left"
    who = f"{request.subject}  {','.join(request.roles)}  {request.assurance}"
    lines = [
        f"{request.id}  {state}",
        f"  {who}  {request.terminal}  certificate {request.sha256[:16]}",
        f"  asks for {', '.join(request.streams)} in {request.meeting}",
    ]
    if request.evidence:
        lines.append(f"  showed {', '.join(request.evidence)}")
    return lines
