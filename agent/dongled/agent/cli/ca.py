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

# RFC 5280, 5.3.1, without those that take back.
REVOCATION_REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
DEFAULT_SUBJECT = "CN=dongled lab CA"
MAX_DAYS = 36500

_output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the certificate (PEM) there, not to standard output.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


_register_help = "The authority's register (JSON) of what it issued and revoked; made if it is not there."


def _days_option(
    default: int, text: str = "How long the certificate is valid."
) -> Callable[[Command], Command]:
    return click.option(
        "--days",
        type=click.IntRange(1, MAX_DAYS),
        default=default,
        show_default=True,
        help=text,
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
@click.option(
    "--register",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"{_register_help} Needed to revoke by terminal.",
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
    register: Path | None,
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
    from dongled.agent.certificates.register import opened as opened_register
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
        if register is not None:
            with opened_register(register, root) as entries:
                entries.add(leaf, request.terminal, kind)
    described = {"kind": kind, "terminal": request.terminal, "roles": roles, "assurance": assurance}
    _hand_over(leaf, output, as_json, described)


def _revocation_options(function: Command) -> Command:
    for option in (
        _json_option,
        _list_option,
        _days_option(1, "How long the list holds; see trust.revocation-max-age too."),
        click.option(
            "--register",
            required=True,
            type=click.Path(path_type=Path, dir_okay=False),
            help=_register_help,
        ),
        token_options,
    ):
        function = option(function)
    return function


_list_option = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the list (PEM) there, not to standard output.",
)


@command.command("revoke")
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A certificate (PEM or DER) to revoke; several times for several.",
)
@click.option(
    "--terminal",
    metavar="URN",
    help="Revoke all certificates of this terminal, urn:uuid:..., that are in the register.",
)
@click.option(
    "--reason",
    type=click.Choice(REVOCATION_REASONS),
    default="unspecified",
    show_default=True,
    help="Why (RFC 5280).",
)
@_revocation_options
@reporting_errors()
def revoke_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    register: Path,
    days: int,
    output: Path | None,
    as_json: bool,
    certificates: tuple[Path, ...],
    terminal: str | None,
    reason: str,
) -> None:
    """Revoke certificates for good, and make the new list. It must get to where terminals read it."""
    from dongled.agent.certificates.authority import load_certificate, require_issued_by
    from dongled.agent.certificates.register import opened as opened_register
    from dongled.agent.certificates.revocation_list import make_crl
    from dongled.agent.certificates.token_authority import opened

    if bool(certificates) == (terminal is not None):
        raise click.UsageError("say what to revoke: --certificate or --terminal")
    shown = [load_certificate(path.read_bytes()) for path in certificates]
    now = datetime.now(UTC)
    with (
        opened(module, uri, pin_source(pin_file, pin_credential)) as (key, root),
        opened_register(register, root) as entries,
    ):
        for certificate in shown:
            require_issued_by(certificate, root)
        serials = [certificate.serial_number for certificate in shown]
        serials += entries.serials_of(terminal) if terminal is not None else []
        new = [serial for serial in serials if entries.revoke(serial, reason, now)]
        crl = make_crl(key, root, entries, days, now)
    _hand_over_list(crl, output, as_json, {"revoked": [f"{serial:x}" for serial in new]})


@command.command("crl")
@_revocation_options
@reporting_errors()
def crl_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    register: Path,
    days: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a new list of what was revoked, before the last one runs out."""
    from dongled.agent.certificates.register import opened as opened_register
    from dongled.agent.certificates.revocation_list import make_crl
    from dongled.agent.certificates.token_authority import opened

    with (
        opened(module, uri, pin_source(pin_file, pin_credential)) as (key, root),
        opened_register(register, root) as entries,
    ):
        crl = make_crl(key, root, entries, days, datetime.now(UTC))
    _hand_over_list(crl, output, as_json, {})


def _hand_over_list(
    crl: x509.CertificateRevocationList, output: Path | None, as_json: bool, described: dict[str, Any]
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = crl.public_bytes(Encoding.PEM).decode()
    _write(pem, output)
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    until = crl.next_update_utc and crl.next_update_utc.isoformat()
    if as_json:
        described = {**described, "number": number, "entries": len(crl), "until": until}
        click.echo(json.dumps({**described, "crl": pem, "file": output and str(output)}, indent=2))
    elif output is None:
        click.echo(pem, nl=False)
    else:
        click.echo(f"wrote {output}: list {number} of {len(crl)} revoked, holds until {until}")


def _write(pem: str, output: Path | None) -> None:
    from dongled.agent.errors import AgentError

    if output is None:
        return
    try:
        output.write_text(pem)
    except OSError as error:
        raise AgentError("file", f"cannot write {output}: {error.strerror}", "check the path") from None


def _hand_over(
    certificate: x509.Certificate, output: Path | None, as_json: bool, described: dict[str, Any]
) -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = certificate.public_bytes(Encoding.PEM).decode()
    _write(pem, output)
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
