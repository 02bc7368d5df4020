"""``dongled private``: show streams to one other terminal of a meeting alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options


def _told(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that the three have in common."""
    for option in (
        click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket."),
        click.option("--meeting", default="", help="Where PEER is in several meetings: in which."),
        settings_options,
    ):
        command = option(command)
    return command


def _do(
    choice: SettingsChoice, socket: Path | None, what: str, peer: str, meeting: str, streams: tuple[str, ...]
) -> None:
    from dongled.agent.control.client import private

    path = choice.socket(socket)
    click.echo(asyncio.run(private(path, what, peer, meeting, list(streams))))


@click.group()
def command() -> None:
    """Show streams to one other terminal of a meeting, and to nobody else.

    PEER is a terminal's name (urn:uuid), subject or session. Invitations and what is under way are in
    'dongled status'.
    """


@command.command()
@click.argument("peer")
@_told
@click.option("--stream", "streams", multiple=True, help="What to show; else all of [[meeting]] private.")
@reporting_errors()
def invite(
    choice: SettingsChoice, socket: Path | None, meeting: str, peer: str, streams: tuple[str, ...]
) -> None:
    """Invite PEER to see streams of this terminal. Unanswered, it lapses after two minutes."""
    _do(choice, socket, "invite", peer, meeting, streams)


@command.command()
@click.argument("peer", default="")
@_told
@click.option("--stream", "streams", multiple=True, help="Show this in return; else nothing.")
@reporting_errors()
def accept(
    choice: SettingsChoice, socket: Path | None, meeting: str, peer: str, streams: tuple[str, ...]
) -> None:
    """Accept PEER's invitation, or the only one there is."""
    _do(choice, socket, "accept", peer, meeting, streams)


@command.command()
@click.argument("peer", default="")
@_told
@reporting_errors()
def end(choice: SettingsChoice, socket: Path | None, meeting: str, peer: str) -> None:
    """End the private session with PEER, or the only one; decline or withdraw an invitation."""
    _do(choice, socket, "end", peer, meeting, ())
