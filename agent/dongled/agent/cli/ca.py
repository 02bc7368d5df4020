"""``dongled ca``: a certificate authority for labs, its key on a token like everybody's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.token_options import pin_source, token_options

if TYPE_CHECKING:
    from cryptography import x509

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_SUBJECT = "CN=dongled lab CA"
MAX_DAYS = 36500

_output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the certificate (PEM) there, not to standard output.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _days_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--days",
        type=click.IntRange(1, MAX_DAYS),
        default=default,
        show_default=True,
        help="How long the certificate is valid.",
    )


@click.group()
def command() -> None:
    """A certificate authority for labs, by the profile of docs/certificates.md."""


@command.command("init")
@token_options
@click.option("--subject", metavar="NAME", help=f'The root\'s subject; by default "{DEFAULT_SUBJECT}".')
@_days_option(3650)
@_output_option
@_json_option
@reporting_errors()
def init_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    subject: str | None,
    days: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make the authority's key and root certificate on the token; what is there already is used."""
    from cryptography import x509

    from dongled.agent.certificates.token_authority import init

    try:
        name = x509.Name.from_rfc4514_string(subject) if subject is not None else None
    except ValueError:
        raise click.BadParameter("not a distinguished name (RFC 4514)", param_hint="--subject") from None
    default = x509.Name.from_rfc4514_string(DEFAULT_SUBJECT)
    pin = pin_source(pin_file, pin_credential)
    made = init(module, uri, pin, name, default=default, days=days, now=datetime.now(UTC))
    _hand_over(made.root, output, as_json, {"created": made.created})


@command.command("issue")
@token_options
@click.option(
    "--csr",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The request (PKCS#10, PEM or DER), as `dongled token csr` writes it.",
)
@click.option("--kind", required=True, type=click.Choice(("identity", "data")), help="Which key it is for.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(("publisher", "viewer", "moderator", "gateway")),
    help="What an identity may do; several times for several roles.",
)
@click.option(
    "--assurance",
    required=True,
    type=click.Choice(("software", "hardware")),
    help="Where you made sure that the private key lives.",
)
@click.option(
    "--identity",
    "identity_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a data key: the terminal's identity certificate, issued before.",
)
@_days_option(365)
@_output_option
@_json_option
@reporting_errors()
def issue_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    csr: Path,
    kind: str,
    roles: tuple[str, ...],
    assurance: str,
    identity_path: Path | None,
    days: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Certify the key of a terminal. The request says which key, subject and terminal, and nothing more."""
    from dongled.agent.certificates.authority import (
        issue_data,
        issue_identity,
        load_certificate,
        load_request,
    )
    from dongled.agent.certificates.token_authority import opened
    from dongled.agent.policy.profile import Assurance, Role

    if kind == "data" and roles:
        raise click.UsageError("roles belong to the identity; a data key has none, so leave out --role")
    if (kind == "data") is not (identity_path is not None):
        raise click.UsageError("--identity belongs to --kind data, and is needed there")
    request = load_request(csr.read_bytes())
    how: dict[str, Any] = {"assurance": Assurance(assurance), "days": days, "now": datetime.now(UTC)}
    with opened(module, uri, pin_source(pin_file, pin_credential)) as (key, root):
        if identity_path is None:
            leaf = issue_identity(key, root, request, roles=[Role(role) for role in roles], **how)
        else:
            identity = load_certificate(identity_path.read_bytes())
            leaf = issue_data(key, root, request, identity, **how)
    described = {"kind": kind, "terminal": request.terminal, "roles": roles, "assurance": assurance}
    _hand_over(leaf, output, as_json, described)


def _hand_over(
    certificate: x509.Certificate, output: Path | None, as_json: bool, described: dict[str, Any]
) -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    from dongled.agent.errors import AgentError

    pem = certificate.public_bytes(Encoding.PEM).decode()
    if output is not None:
        try:
            output.write_text(pem)
        except OSError as error:
            raise AgentError("file", f"cannot write {output}: {error.strerror}", "check the path") from None
    subject = certificate.subject.rfc4514_string()
    until = certificate.not_valid_after_utc.isoformat()
    if as_json:
        click.echo(
            json.dumps(
                {
                    **described,
                    "subject": subject,
                    "serial": f"{certificate.serial_number:x}",
                    "sha256": certificate.fingerprint(SHA256()).hex(),
                    "valid_until": until,
                    "certificate": pem,
                    "file": output and str(output),
                },
                indent=2,
            )
        )
    elif output is None:
        click.echo(pem, nl=False)
    else:
        whose = f"{subject}, {described['terminal']}" if "terminal" in described else subject
        click.echo(f"wrote {output}: {whose}, valid until {until}")
