"""``dongled status``: what the daemon says of itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.status import DaemonStatus, MeetingStatus


@click.command()
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def command(choice: SettingsChoice, socket: Path | None, as_json: bool) -> None:
    """Show the token, the meetings, their streams, and what was refused."""
    from dataclasses import asdict

    from dongled.agent.control.client import fetch_status

    path = socket or choice.load_layers().settings.control.socket
    status = asyncio.run(fetch_status(path))
    if as_json:
        click.echo(json.dumps(asdict(status), indent=2))
    else:
        _show(status)


def _show(status: DaemonStatus) -> None:
    token = status.token
    click.echo(f"{status.name}  {status.terminal}  up {status.uptime:.0f} s  (dongled {status.version})")
    why = f": {token.why}" if token.why else ""
    click.echo(f"token    {token.state}{why}  {token.uri}  sign {token.sign}, derive {token.derive}")
    for warning in status.warnings:
        click.echo(f"warning  {warning.text} [{warning.id}]; {warning.hint}")
    for meeting in status.meetings:
        _show_meeting(meeting)


def _show_meeting(meeting: MeetingStatus) -> None:
    why = f": {meeting.why}" if meeting.why and meeting.state != "joined" else ""
    click.echo(f"meeting  {meeting.name}  {meeting.encryption}  {meeting.state}{why}")
    for peer in meeting.peers:
        life = "live" if peer.live else "silent"
        if peer.stale:
            life += f"  STALE: {', '.join(peer.stale)}"
        click.echo(
            f"  peer   {peer.terminal}  {peer.subject}  {','.join(peer.roles)}  {peer.assurance}  {life}"
        )
    for out in meeting.sending:
        click.echo(
            f"  send   {out.stream}  generation {_or_dash(out.generation)}  {out.fps:.1f} fps  "
            f"{out.bitrate / 1e6:.2f} Mbit/s  sealed {out.frames_sealed}{_counts('dropped', out.dropped)}"
        )
    for came in meeting.receiving:
        click.echo(
            f"  watch  {came.terminal} {came.stream}  generation {_or_dash(came.generation)}  "
            f"{came.fps:.1f} fps  {came.bitrate / 1e6:.2f} Mbit/s  opened {came.frames_opened}"
            f"{_counts('failed', came.frames_failed)}{_counts('not shown', came.frames_skipped)}"
        )
    for title, counts in (("refused", meeting.refused), ("alarms", meeting.alarms)):
        if counts:
            click.echo(f"  {title}  " + ", ".join(f"{reason} {count}" for reason, count in counts.items()))


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _counts(title: str, counts: dict[str, int]) -> str:
    if not any(counts.values()):
        return ""
    return f"  {title}: " + ", ".join(f"{reason} {count}" for reason, count in counts.items() if count)
