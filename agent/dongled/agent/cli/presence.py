"""``dongled presence``: whose touch of a FIDO2 key counts, and at which terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.fido_options import key_pin, key_pin_option, person
from dongled.agent.cli.files import read_file, replace_file

if TYPE_CHECKING:
    from dongled.tokens.fido.registered import Registration

_file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file, one of those that presence.credentials names.",
)


@click.group()
def command() -> None:
    """Say whose touch of a FIDO2 key counts as evidence that somebody is present."""


@command.command("register")
@click.argument("name")
@_file_option
@click.option("--terminal", metavar="URN", required=True, help="The terminal at which its touch counts.")
@click.option("--verify", "verified", is_flag=True, help="The key has to know its user: by PIN or finger.")
@key_pin_option
@reporting_errors()
def register_command(name: str, path: Path, terminal: str, verified: bool, key_pin_file: Path | None) -> None:
    """Register the FIDO2 key that is in, as NAME's, at a terminal. It is touched once.

    The file is public: that terminal needs it, and each publisher that wants a touch.
    """
    from dongled.tokens.fido import keys, registered

    registered.require_fit(name, terminal)
    registered.require_room(there := _people(path) if path.exists() else [])
    known = [each.credential for each in there]
    somebody = person(key_pin(key_pin_file))
    made = keys.register(keys.PRESENCE_RP, name, somebody, verified=verified, known=known)
    added = registered.Registration(name, terminal, made.credential, made.public_key, made.count)
    # Another may have been registered while this one waited for the touch.
    people = [*(_people(path) if path.exists() else []), added]
    replace_file(path, registered.encode(people))
    click.echo(f"{name}'s key counts at {terminal}")


@command.command("list")
@_file_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def list_command(path: Path, as_json: bool) -> None:
    """List whose touch counts."""
    found = [
        {"name": each.name, "terminal": each.terminal, "credential": each.credential.hex()}
        for each in _people(path)
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        click.echo(f"{each['name']}  at {each['terminal']}")


@command.command("remove")
@click.argument("name")
@_file_option
@reporting_errors()
def remove_command(name: str, path: Path) -> None:
    """Have NAME's touch count no longer. The key itself is not needed."""
    from dongled.tokens.errors import TokenError
    from dongled.tokens.fido import registered

    people = _people(path)
    kept = [each for each in people if each.name != name]
    if len(kept) == len(people):
        raise TokenError("presence-name", f"no key of {name!r} is registered", "`dongled presence list`")
    replace_file(path, registered.encode(kept))


def _people(path: Path) -> list[Registration]:
    from dongled.tokens.fido import registered

    return registered.parse(read_file(path), str(path))
