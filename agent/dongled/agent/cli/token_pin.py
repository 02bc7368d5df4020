"""``dongled token change-pin`` and its like: the PIN, PUK and management key of a PIV card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.token_options import config_option, ledger_of, module_option, pin_source

Command = TypeVar("Command", bound=Callable[..., Any])


def _card_options(function: Command) -> Command:
    uri = click.option(
        "--uri", required=True, metavar="URI", help="The card, as `dongled token list` names it."
    )
    return module_option(uri(function))


def _file(name: str, what: str) -> Callable[[Command], Command]:
    return click.option(
        name, type=click.Path(path_type=Path), help=f"The file that holds {what}; otherwise you are asked."
    )


@click.command("change-pin")
@_card_options
@config_option
@_file("--pin-file", "the PIN that the card has")
@_file("--new-pin-file", "the one that it is to have")
@reporting_errors()
def change_pin_command(
    module: str, uri: str, config: Path | None, pin_file: Path | None, new_pin_file: Path | None
) -> None:
    """Give a PIV card another PIN. The daemon must not have it open."""
    from dongled.tokens import piv

    old, new = pin_source(pin_file, None), pin_source(new_pin_file, None, "new PIN", new=True)
    serial = asyncio.run(piv.change(piv.Reference.PIN, module, uri, old, new, ledger=ledger_of(config)))
    click.echo(f"the card {serial} has the new PIN; write it where the daemon reads it")


@click.command("change-puk")
@_card_options
@config_option
@_file("--puk-file", "the PUK that the card has")
@_file("--new-puk-file", "the one that it is to have")
@reporting_errors()
def change_puk_command(
    module: str, uri: str, config: Path | None, puk_file: Path | None, new_puk_file: Path | None
) -> None:
    """Give a PIV card another PUK, which unblocks its PIN."""
    from dongled.tokens import piv

    old, new = pin_source(puk_file, None, "PUK"), pin_source(new_puk_file, None, "new PUK", new=True)
    serial = asyncio.run(piv.change(piv.Reference.PUK, module, uri, old, new, ledger=ledger_of(config)))
    click.echo(f"the card {serial} has the new PUK")


@click.command("unblock-pin")
@_card_options
@config_option
@_file("--puk-file", "the PUK")
@_file("--new-pin-file", "the PIN that the card is to have")
@reporting_errors()
def unblock_pin_command(
    module: str, uri: str, config: Path | None, puk_file: Path | None, new_pin_file: Path | None
) -> None:
    """Give a PIV card a PIN by its PUK, after too many wrong ones."""
    from dongled.tokens import piv

    puk, new = pin_source(puk_file, None, "PUK"), pin_source(new_pin_file, None, "new PIN", new=True)
    serial = asyncio.run(piv.unblock(module, uri, puk, new, ledger=ledger_of(config)))
    click.echo(f"the card {serial} is unblocked and has the new PIN")


@click.command("change-management-key")
@_card_options
@_file("--so-pin-file", "the management key that the card has, in hexadecimal digits")
@_file("--new-so-pin-file", "the one that it is to have")
@reporting_errors()
def change_management_key_command(
    module: str, uri: str, so_pin_file: Path | None, new_so_pin_file: Path | None
) -> None:
    """Give a YubiKey another management key: who has it may put keys and certificates on the card."""
    from dongled.tokens import piv

    old = pin_source(so_pin_file, None, "management key")
    new = pin_source(new_so_pin_file, None, "new management key", new=True)
    serial = asyncio.run(piv.change_management_key(module, uri, old, new))
    click.echo(f"the card {serial} has the new management key")


COMMANDS = (change_pin_command, change_puk_command, unblock_pin_command, change_management_key_command)
