"""``dongled token rotate``: another key in place of one that the terminal has, in steps to be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.files import read_file, write_file
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from cryptography import x509

    from dongled.agent.rotation import Rotation


@click.command("rotate")
@settings_options
@click.option("--role", required=True, type=click.Choice(["identity", "data"]), help="Which key.")
@click.option(
    "--csr", type=click.Path(path_type=Path), help="Write the request there, not to standard output."
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, resolve_path=True),
    help="The new key's certificate (PEM), and what leads from it to the root, leaf first.",
)
@click.option(
    "--drop-in",
    type=click.Path(path_type=Path),
    help="Where the new key is pinned; by default conf.d/60-ROLE-key.toml beside the configuration.",
)
@click.option("--finish", is_flag=True, help="Remove the old key, once the daemon uses the new one.")
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket, for --finish.")
@reporting_errors()
def rotate_command(
    choice: SettingsChoice,
    role: str,
    csr: Path | None,
    certificate: Path | None,
    drop_in: Path | None,
    finish: bool,
    socket: Path | None,
) -> None:
    """Put another key in the place of one that the terminal has.

    First without --certificate: a new key is made beside the old one, and its request written. Then with
    --certificate: the new key is pinned. After a restart with --finish: the old one is removed. The old key
    works until the new one does, and each line may be given again.
    """
    from dongled.agent.rotation import Rotation, alone
    from dongled.tokens.api import KeyRole

    if finish and (csr is not None or certificate is not None):
        raise click.UsageError("--finish is a step of its own")
    settings = choice.load()
    with alone(settings.state.directory):
        rotation = Rotation(settings, KeyRole(role))
        if finish:
            done = asyncio.run(rotation.finish(choice.socket(socket)))
            click.echo(f"the old {role} key is removed" if done else f"no {role} key is to be removed")
        elif certificate is not None:
            _certify(choice, rotation, role, certificate, drop_in)
        else:
            _request(asyncio.run(rotation.begin()), role, csr)


def _request(request: x509.CertificateSigningRequest, role: str, output: Path | None) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = request.public_bytes(Encoding.PEM).decode()
    if output is None:
        click.echo(pem, nl=False)
        return
    write_file(output, pem)
    click.echo(f"wrote {output}: have it certified, then give --certificate with --role {role}")


def _certify(choice: SettingsChoice, rotation: Rotation, role: str, file: Path, drop_in: Path | None) -> None:
    from dongled.agent.errors import AgentError
    from dongled.agent.rotation import pin_text, write_pin

    key, alone = asyncio.run(rotation.certify(_read(file)))
    text = pin_text(key, file if rotation.names_certificate or not alone else None)
    if drop_in is None and choice.instance is not None:
        click.echo(text, nl=False)
        click.echo(f"put this into {choice.files()[0]}: drop-ins are every instance's", err=True)
        return
    path = drop_in or choice.files()[0].parent / "conf.d" / f"60-{role}-key.toml"
    write_pin(path, text)
    token = choice.load().token
    assert token is not None
    section = token.identity if role == "identity" else token.data
    if section.digest != key.sha256:
        raise AgentError(
            "pin-overridden",
            f"{path} pins the new {role} key, but the settings name another one after it",
            f"`dongled config show` says where; remove [token.{role}] there",
        )
    click.echo(f"{path} pins the new {role} key: restart the daemon, then give --finish with --role {role}")


def _read(file: Path) -> Sequence[x509.Certificate]:
    from cryptography import x509

    from dongled.agent.policy.profile import MALFORMED
    from dongled.tokens.errors import TokenError

    try:
        return x509.load_pem_x509_certificates(read_file(file))
    except MALFORMED:
        raise TokenError(
            "certificate-malformed", f"{file} holds no X.509 certificate", "give it in PEM"
        ) from None
