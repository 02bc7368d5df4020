"""The options by which every command that needs a token is told which, and how to unlock it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dongled.tokens.ledger import PinLedger
    from dongled.tokens.pin import PinSource

Command = TypeVar("Command", bound=Callable[..., Any])


def module_option(function: Command) -> Command:
    return click.option(
        "--module",
        required=True,
        metavar="PATH",
        envvar="DONGLED_TOKEN__MODULE",
        help="The token's PKCS#11 module (a shared library).",
    )(function)


def token_options(function: Command) -> Command:
    """Options of every command that logs in."""
    for option in (
        click.option("--pin-credential", metavar="NAME", help="The systemd credential that holds the PIN."),
        click.option("--pin-file", type=click.Path(path_type=Path), help="The file that holds the PIN."),
        click.option(
            "--uri", required=True, metavar="URI", help="The token, as `dongled token list` names it."
        ),
        module_option,
    ):
        function = option(function)
    return function


def config_option(function: Command) -> Command:
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The terminal's configuration, to remember refused PINs where its daemon does.",
    )(function)


def ledger_of(config: Path | None) -> PinLedger:
    """The daemon's, kept in its state directory, where its configuration is given."""
    from dongled.agent.cli.options import SettingsChoice
    from dongled.tokens.ledger import PROCESS_LEDGER
    from dongled.tokens.ledger_file import FileLedger

    if config is None:
        return PROCESS_LEDGER
    return FileLedger(SettingsChoice(config, None, {}).load_layers().settings.state.directory)


def pin_source(
    file: Path | None, credential: str | None, what: str = "token's PIN", *, new: bool = False
) -> PinSource:
    from dongled.tokens.errors import TokenError
    from dongled.tokens.pin import PinCredential, PinFile, PinPrompt

    if file is not None and credential is not None:
        raise click.UsageError("--pin-file and --pin-credential exclude each other")
    if file is not None:
        return PinFile(file)
    if credential is not None:
        return PinCredential(credential)

    def ask() -> str:
        if not sys.stdin.isatty():
            raise TokenError(
                "pin-missing", f"the {what} is needed", "give it in a file: see --help for the option"
            )
        return str(click.prompt(what, hide_input=True, confirmation_prompt=new, err=True))

    return PinPrompt(ask)
