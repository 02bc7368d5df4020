"""``dongled token prepare``: one line for each device of a fleet that is configured alike."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.token_options import module_option

if TYPE_CHECKING:
    from dongled.tokens.provision import TokenReport

# What every token takes: a PIV card's PIN has six to eight digits.
_PIN_DIGITS = 8
_SO_PIN_DIGITS = 16


@click.command("prepare")
@module_option
@click.option("--label", default="dongled", show_default=True, help="The token's label, at most 32 bytes.")
@click.option(
    "--uri", metavar="URI", help="The token, where it is not blank: as `dongled token list` names it."
)
@click.option(
    "--pin-file",
    required=True,
    type=click.Path(path_type=Path),
    help="The file that holds the PIN; made, with a random one, if it is not there and the token is blank.",
)
@click.option(
    "--so-pin-file",
    required=True,
    type=click.Path(path_type=Path),
    help="The same for the SO PIN; of a PIV card the management key, in hexadecimal digits.",
)
@click.option(
    "--drop-in",
    type=click.Path(path_type=Path),
    default=Path("/etc/dongled/conf.d/50-token.toml"),
    show_default=True,
    help="Where the configuration of the token is written.",
)
@reporting_errors()
def prepare_command(
    module: str, label: str, uri: str | None, pin_file: Path, so_pin_file: Path, drop_in: Path
) -> None:
    """Make what a device lacks: PINs, a token with both keys, and the drop-in that names them.

    What is there is kept, so that the same line may be given again.
    """
    report = asyncio.run(_prepare(module, label, uri, pin_file, so_pin_file))
    _write_once(drop_in, _text(module, report))
    click.echo(f"{report.token.uri} is ready; {drop_in} names it and its keys")


async def _prepare(
    module: str, label: str, uri: str | None, pin_file: Path, so_pin_file: Path
) -> TokenReport:
    from dongled.tokens import provision
    from dongled.tokens.api import KeyRole
    from dongled.tokens.pin import PinFile

    pin, officer = PinFile(pin_file), PinFile(so_pin_file)
    if uri is None:
        _make_pin(pin_file, _PIN_DIGITS)
        _make_pin(so_pin_file, _SO_PIN_DIGITS)
        uri = (await provision.initialize(module, label, officer, pin)).token.uri
    report = await provision.show(module, uri, pin)
    for role in (KeyRole.IDENTITY, KeyRole.DATA):
        if role in report.refused:
            raise report.refused[role]
        if role not in report.keys:
            await provision.generate(module, uri, pin, role, officer=officer)
    return await provision.show(module, uri, pin)


def _make_pin(path: Path, digits: int) -> None:
    from dongled.tokens.errors import TokenError

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise TokenError("file", f"cannot write {path}: {error.strerror}", "check the path") from None
    with open(descriptor, "w") as file:
        file.write("".join(secrets.choice("0123456789") for _ in range(digits)) + "\n")
        file.flush()
        # Before the token has it: a PIN that only the token knows is lost.
        os.fsync(file.fileno())


def _text(module: str, report: TokenReport) -> str:
    lines = [
        "# Written by `dongled token prepare`: this device's token. What unlocks it is configured elsewhere.",
        f"[token]\nmodule = {json.dumps(module)}\nuri = {json.dumps(report.token.uri)}\n",
    ]
    for role, key in report.keys.items():
        if role.value in ("identity", "data"):
            lines.append(f'[token.{role.value}]\nid = "{key.cka_id.hex()}"\nsha256 = "{key.sha256.hex()}"\n')
    return "\n".join(lines)


def _write_once(path: Path, text: str) -> None:
    from dongled.tokens.errors import TokenError

    try:
        if path.exists():
            if path.read_text() == text:
                return
            raise TokenError(
                "already-prepared",
                f"{path} names another token or other keys",
                "this device was prepared before: insert its own token, or remove the file if it is replaced",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise TokenError("file", f"cannot write {path}: {error.strerror}", "check the path") from None
