"""``dongled token unlock``: give a running daemon its PIN, and say what else may."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.fido_options import ask_pin, key_pin, key_pin_option, person
from dongled.agent.cli.options import SettingsChoice, settings_options
from dongled.agent.cli.token_options import pin_source

if TYPE_CHECKING:
    from dongled.config.api import Settings, TokenSettings
    from dongled.tokens.fido.vault import Vault
    from dongled.tokens.pin import Pin, PinSource

_CREDENTIAL = "/etc/credstore.encrypted/dongled.token-pin"


@click.group(invoke_without_command=True)
@settings_options
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--fido", "to_key", is_flag=True, help="Give the PIN of the FIDO2 key, not the token's.")
@click.pass_context
@reporting_errors()
def command(context: click.Context, choice: SettingsChoice, socket: Path | None, to_key: bool) -> None:
    """Give a running daemon the PIN that it waits for.

    You are asked for it; without a terminal it is read from standard input.
    """
    if context.invoked_subcommand is not None:
        return
    from dongled.agent.control.client import unlock

    path = choice.socket(socket)
    pin = ask_pin("PIN of the FIDO2 key" if to_key else "token's PIN").reveal()
    if to_key:
        click.echo("touch the FIDO2 key when it blinks", err=True)
    click.echo(f"the token is {asyncio.run(unlock(path, pin, to_key))}")


@command.command("enroll")
@click.argument("name")
@settings_options
@click.option("--verify", "verified", is_flag=True, help="The key has to know its user: by PIN or finger.")
@click.option("--pin-file", type=click.Path(path_type=Path), help="The file that holds the token's PIN.")
@key_pin_option
@reporting_errors()
def enroll_command(
    choice: SettingsChoice, name: str, verified: bool, pin_file: Path | None, key_pin_file: Path | None
) -> None:
    """Let the FIDO2 key that is in unlock the token from now on; call it NAME.

    It is touched twice. The token's PIN is tried on the token, and then sealed for that key in the file that
    `token.pin-fido` names.
    """
    from dongled.tokens.fido.enrolling import enroll

    settings = choice.load_layers().settings
    token, vault = _vault(settings)
    pin, serial = asyncio.run(_tried(settings, token, pin_source(pin_file, None)))
    ask = key_pin(key_pin_file)
    entry = enroll(vault, name, serial, pin, person(ask), person(ask), verified=verified)
    knows = "once it has verified its user" if entry.verified else "at a touch, whoever's"
    click.echo(f"{name} unlocks the token {serial}, {knows}")


@command.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def list_command(choice: SettingsChoice, as_json: bool) -> None:
    """List what may unlock the token."""
    from dongled.tokens.fido.enrolling import listed

    _, vault = _vault(choice.load_layers().settings)
    found = [
        {"name": entry.name, "token": entry.serial, "verified": entry.verified} for entry in listed(vault)
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        knows = "verifies its user" if entry["verified"] else "a touch suffices"
        click.echo(f"{entry['name']}  token {entry['token']}, {knows}")
    if not found:
        click.echo("no FIDO2 key", err=True)


@command.command("remove")
@click.argument("name")
@settings_options
@reporting_errors()
def remove_command(choice: SettingsChoice, name: str) -> None:
    """Have the FIDO2 key NAME unlock the token no longer. The key itself is not needed.

    Whoever kept a copy of the file can still use the key with it: change the token's PIN where that matters.
    """
    from dongled.tokens.fido.enrolling import remove

    _, vault = _vault(choice.load_layers().settings)
    remove(vault, name)
    click.echo(f"{name} unlocks the token no longer")


@command.command("test")
@settings_options
@key_pin_option
@reporting_errors()
def test_command(choice: SettingsChoice, key_pin_file: Path | None) -> None:
    """Get the PIN as the daemon will, and log in to the token with it."""
    from dongled.agent import wiring
    from dongled.tokens.fido.source import FidoPin

    settings = choice.load_layers().settings
    token = _token(settings)
    source = wiring.pin_source(token)
    if isinstance(source, FidoPin):
        source.key_pin = key_pin(key_pin_file)
        click.echo("touch the FIDO2 key when it blinks", err=True)
    serial = asyncio.run(_logged_in(settings, token, source))
    click.echo(f"{source.description} unlocks the token {serial}")


@command.command("credential")
@settings_options
@click.option(
    "--with-key",
    type=click.Choice(["host", "tpm2", "host+tpm2"]),
    required=True,
    help="What can open it: a file of this machine (weak), its TPM, or both together.",
)
@click.option(
    "--tpm2-device", metavar="DEVICE", help="The TPM, as systemd-creds(1) names it; otherwise it is found."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=_CREDENTIAL,
    show_default=True,
    help="Where to put it.",
)
@click.option("--pin-file", type=click.Path(path_type=Path), help="The file that holds the token's PIN.")
@reporting_errors()
def credential_command(
    choice: SettingsChoice, with_key: str, tpm2_device: str | None, output: Path, pin_file: Path | None
) -> None:
    """Seal the token's PIN as a systemd credential, which the service opens at its start.

    The PIN is tried on the token first. Set `token.pin-credential = "token-pin"`.
    """
    settings = choice.load_layers().settings
    pin, serial = asyncio.run(_tried(settings, _token(settings), pin_source(pin_file, None)))
    arguments = [f"--name={output.name}", f"--with-key={with_key}"]
    arguments += [f"--tpm2-device={tpm2_device}"] if tpm2_device is not None else []
    _seal(arguments, pin, output)
    click.echo(f"{output} unlocks the token {serial}; only this machine opens it")


def _seal(arguments: list[str], pin: Pin, output: Path) -> None:
    from dongled.agent.errors import AgentError

    try:
        done = subprocess.run(
            ["systemd-creds", "encrypt", *arguments, "-", str(output)],
            input=pin.reveal().encode(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise AgentError(
            "no-systemd-creds", "There is no systemd-creds here.", "It takes systemd 250."
        ) from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise AgentError(
            "not-sealed",
            f"systemd-creds did not seal it: {lines[-1]}",
            "It takes root; `systemd-creds has-tpm2` tells what of a TPM is there.",
        )


def _token(settings: Settings) -> TokenSettings:
    from dongled.agent.errors import AgentError

    if settings.token is None:
        raise AgentError("no-token", "No token is configured.", "Fill in [token] of the settings.")
    return settings.token


def _vault(settings: Settings) -> tuple[TokenSettings, Vault]:
    from dongled.agent.errors import AgentError
    from dongled.tokens.fido.vault import Vault

    token = _token(settings)
    if token.pin_fido is None:
        raise AgentError(
            "fido-not-configured", "No FIDO2 key is to unlock this token.", "Name a file in [token] pin-fido."
        )
    return token, Vault(token.pin_fido)


async def _logged_in(settings: Settings, token: TokenSettings, source: PinSource) -> str:
    """The token's serial number, once the PIN was accepted."""
    from dongled.tokens.ledger_file import FileLedger
    from dongled.tokens.session import open_session

    ledger = FileLedger(settings.state.directory)
    session = await open_session(str(token.module), token.uri, source, frozenset(), ledger=ledger)
    try:
        return session.token.serial
    finally:
        await session.close()


async def _tried(settings: Settings, token: TokenSettings, source: PinSource) -> tuple[Pin, str]:
    serial = await _logged_in(settings, token, source)
    return await asyncio.to_thread(source.read), serial
