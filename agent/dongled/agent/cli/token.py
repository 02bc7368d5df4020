"""``dongled token``: look at tokens, prepare one for a terminal, get its keys certified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dongled.agent.cli import unlock
from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.files import read_file, write_file
from dongled.agent.cli.token_attest import attest_command
from dongled.agent.cli.token_doctor import bench_command, doctor_command
from dongled.agent.cli.token_options import config_option, ledger_of, module_option, pin_source, token_options
from dongled.agent.cli.token_pin import COMMANDS as PIN_COMMANDS
from dongled.agent.cli.token_prepare import prepare_command
from dongled.agent.cli.token_rotate import rotate_command

if TYPE_CHECKING:
    from cryptography import x509

    from dongled.tokens.api import KeyInfo, TokenInfo
    from dongled.tokens.pin import PinSource

Command = TypeVar("Command", bound=Callable[..., Any])

ROLES = ("identity", "data", "ca")


def _role_option(*roles: str) -> Callable[[Command], Command]:
    return click.option("--role", required=True, type=click.Choice(roles), help="Which key.")


_officer_option = click.option(
    "--so-pin-file",
    type=click.Path(path_type=Path),
    help="The file that holds the SO PIN, where the token takes changes from no one else: of a PIV card "
    "the management key, in hexadecimal digits.",
)

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def command() -> None:
    """Look at tokens, prepare one for a terminal, get its keys certified."""


command.add_command(doctor_command)
command.add_command(bench_command)
command.add_command(unlock.command, "unlock")
command.add_command(attest_command)
command.add_command(prepare_command)
command.add_command(rotate_command)
for pin_command in PIN_COMMANDS:
    command.add_command(pin_command)


@command.command("list")
@module_option
@_json_option
@reporting_errors()
def list_command(module: str, as_json: bool) -> None:
    """List the tokens that a module sees, with the URI of each."""
    from dongled.tokens import provision

    tokens = asyncio.run(provision.list_tokens(module))
    if as_json:
        _print_json([_token_json(token) for token in tokens])
        return
    for token in tokens:
        click.echo(token.uri if token.initialized else f"(blank) {token.uri}")
        for warning in _pin_warnings(token):
            click.echo(f"  {warning}")
    if not tokens:
        click.echo("no token", err=True)


@command.command("init")
@module_option
@click.option("--label", required=True, help="The token's label, at most 32 bytes.")
@click.option("--so-pin-file", type=click.Path(path_type=Path), help="The file that holds the SO PIN.")
@click.option("--pin-file", type=click.Path(path_type=Path), help="The file that holds the user's PIN.")
@click.option("--erase", metavar="SERIAL", help="Wipe the token with this serial number for it.")
@_json_option
@reporting_errors()
def init_command(
    module: str, label: str, so_pin_file: Path | None, pin_file: Path | None, erase: str | None, as_json: bool
) -> None:
    """Give a blank token a label and PINs, and print its URI.

    A token that has the label already is left as it is. Nothing is wiped without --erase SERIAL.
    """
    from dongled.tokens import provision

    so_pin = pin_source(so_pin_file, None, "security officer's PIN", new=True)
    pin = pin_source(pin_file, None, "new user PIN", new=True)
    done = asyncio.run(provision.initialize(module, label, so_pin, pin, erase=erase))
    if as_json:
        _print_json({**_token_json(done.token), "changed": done.changed})
    else:
        click.echo(done.token.uri)


@command.command("keygen")
@token_options
@config_option
@_officer_option
@_role_option(*ROLES)
@_json_option
@reporting_errors()
def keygen_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    config: Path | None,
    so_pin_file: Path | None,
    role: str,
    as_json: bool,
) -> None:
    """Generate a key on the token, never to leave it. Refuses when the role has one."""
    from dongled.tokens import provision
    from dongled.tokens.api import KeyRole

    pin, officer = pin_source(pin_file, pin_credential), _officer(so_pin_file)
    key = asyncio.run(
        provision.generate(module, uri, pin, KeyRole(role), officer=officer, ledger=ledger_of(config))
    )
    if as_json:
        _print_json(_key_json(key))
    else:
        _print_key(key)


@command.command("csr")
@token_options
@config_option
@_role_option("identity", "data")
@click.option("--subject", required=True, metavar="NAME", help='The subject, such as "CN=camera,O=Example".')
@click.option(
    "--uuid", metavar="UUID", help="The terminal's UUID; by default it comes from the token's identity key."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write the request there, not to standard output."
)
@_json_option
@reporting_errors()
def csr_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    config: Path | None,
    role: str,
    subject: str,
    uuid: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write a certificate request (PKCS#10, PEM), signed by the key on the token."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from dongled.tokens import provision
    from dongled.tokens.api import KeyRole

    try:
        name = x509.Name.from_rfc4514_string(subject)
    except ValueError:
        raise click.BadParameter("not a distinguished name (RFC 4514)", param_hint="--subject") from None
    pin = pin_source(pin_file, pin_credential)
    request = asyncio.run(
        provision.request_certificate(module, uri, pin, KeyRole(role), name, uuid, ledger=ledger_of(config))
    )
    pem = request.public_bytes(Encoding.PEM).decode()
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    terminal = names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    if output is not None:
        write_file(output, pem)
    if as_json:
        _print_json(
            {
                "role": role,
                "terminal": terminal,
                "subject": subject,
                "csr": pem,
                "file": output and str(output),
            }
        )
    else:
        click.echo(f"wrote {output} for {terminal}" if output is not None else pem, nl=output is not None)


@command.command("import-cert")
@token_options
@config_option
@_officer_option
@_role_option(*ROLES)
@click.argument("certificate", type=click.Path(path_type=Path))
@_json_option
@reporting_errors()
def import_cert_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    config: Path | None,
    so_pin_file: Path | None,
    role: str,
    certificate: Path,
    as_json: bool,
) -> None:
    """Store a role's CERTIFICATE (PEM or DER) on the token, after checking that it is for that key."""
    from dongled.tokens import provision
    from dongled.tokens.api import KeyRole

    pin = pin_source(pin_file, pin_credential)
    loaded = _read_certificate(certificate)
    officer = _officer(so_pin_file)
    key = asyncio.run(
        provision.store_certificate(
            module, uri, pin, KeyRole(role), loaded, officer=officer, ledger=ledger_of(config)
        )
    )
    if as_json:
        _print_json(_key_json(key))
    else:
        _print_key(key)


@command.command("show")
@token_options
@config_option
@_json_option
@reporting_errors()
def show_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show the token's keys: attributes, what to pin in the configuration, certificates."""
    from dongled.tokens import provision

    report = asyncio.run(
        provision.show(module, uri, pin_source(pin_file, pin_credential), ledger=ledger_of(config))
    )
    if as_json:
        _print_json(
            {
                **_token_json(report.token),
                "keys": {role.value: _key_json(key) for role, key in report.keys.items()},
                "refused": {
                    role.value: {"reason": error.reason, "message": str(error), "hint": error.hint}
                    for role, error in report.refused.items()
                },
            }
        )
        return
    # As a configuration takes it.
    click.echo(f'[token]\nuri = "{report.token.uri}"')
    for warning in _pin_warnings(report.token):
        click.echo(f"# {warning}")
    for key in report.keys.values():
        click.echo("")
        _print_key(key)
    for role, error in report.refused.items():
        click.echo(f"\n# {role.value}: refused, {error} [{error.reason}]\n#   {error.hint}")
    if not report.keys and not report.refused:
        click.echo("# no keys: `dongled token keygen` makes them")


def _officer(file: Path | None) -> PinSource | None:
    return pin_source(file, None, "security officer's PIN") if file is not None else None


def _read_certificate(path: Path) -> Any:
    from cryptography import x509

    from dongled.agent.policy.profile import MALFORMED
    from dongled.tokens.errors import TokenError

    content = read_file(path)
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in content else x509.load_der_x509_certificate
    try:
        return load(content)
    except MALFORMED:
        raise TokenError(
            "certificate-malformed", f"{path} holds no X.509 certificate", "give it in PEM or DER"
        ) from None


def _pin_warnings(token: TokenInfo) -> list[str]:
    said = (
        (token.pin_locked, "the PIN is locked"),
        (token.pin_final_try, "one more wrong PIN locks the token"),
        (token.pin_count_low, "a wrong PIN was entered since the last login"),
        (token.initialized and not token.pin_set, "no user PIN is set"),
    )
    return [text for applies, text in said if applies]


def _token_json(token: TokenInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(token)


def _key_json(key: KeyInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "role": key.role.value,
        "label": key.label,
        "id": key.cka_id.hex(),
        "sha256": key.sha256.hex(),
        "point": key.point.hex(),
        "attributes": asdict(key.attributes),
        "certificate": _pem(key.certificate) if key.certificate is not None else None,
    }


def _pem(der: bytes) -> str:
    from ssl import DER_cert_to_PEM_cert

    return DER_cert_to_PEM_cert(der)


def _print_key(key: KeyInfo) -> None:
    from dataclasses import asdict

    attributes = [f"{name}={str(value).lower()}" for name, value in asdict(key.attributes).items()]
    click.echo(f'[token.{key.role.value}]\nid = "{key.cka_id.hex()}"\nsha256 = "{key.sha256.hex()}"')
    click.echo("# " + " ".join(attributes))
    if key.certificate is None:
        click.echo("# no certificate")
        return
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(key.certificate)
    click.echo(f"# certificate {certificate.subject.rfc4514_string()}, {_terminal_of(certificate)}")
    click.echo(f"#   issued by {certificate.issuer.rfc4514_string()}")
    click.echo(f"#   valid until {certificate.not_valid_after_utc.isoformat()}")


def _terminal_of(certificate: x509.Certificate) -> str:
    """What a certificate names: a terminal, unless it is an authority's or none of ours."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return "of no terminal"
    return ", ".join(names.get_values_for_type(x509.UniformResourceIdentifier))


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
