"""``dongled token attest``: what the token's maker says of a key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.files import read_file, write_file
from dongled.agent.cli.token_options import config_option, ledger_of, pin_source, token_options


@click.command("attest")
@token_options
@config_option
@click.option("--role", required=True, type=click.Choice(["identity", "data"]), help="Which key.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file with the maker's root (PEM or DER): check against it, as publishers do. May be repeated.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the certificates there, as PEM.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def attest_command(
    module: str,
    uri: str,
    pin_file: Path | None,
    pin_credential: str | None,
    config: Path | None,
    role: str,
    roots: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Get the maker's word that a key was made on the token: certificates for your platform to check."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    from dongled.agent.policy.attestation import Attestation
    from dongled.agent.policy.clock import TrustedClock
    from dongled.tokens import provision
    from dongled.tokens.api import KeyRole

    pin = pin_source(pin_file, pin_credential)
    key, shown = asyncio.run(provision.attestation(module, uri, pin, KeyRole(role), ledger=ledger_of(config)))
    certificates = [x509.load_der_x509_certificate(der) for der in shown]
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates).decode()
    found = {"role": role, "certificates": pem, "checked": bool(roots)}
    if roots:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.point)
        verifier = Attestation([read_file(root) for root in roots], TrustedClock("system"))
        (statement,) = verifier.verify(shown, [public])
        found |= {
            "subject": statement.subject,
            "serial": statement.serial,
            "firmware": statement.firmware,
            "pin": statement.pin,
            "touch": statement.touch,
        }
    if output is not None:
        write_file(output, pem)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if output is None:
        click.echo(pem, nl=False)
    if roots:
        click.echo(
            f"{role}: made on device {found['serial']}, firmware {found['firmware']}; "
            f"PIN {found['pin']}, touch {found['touch']}",
            err=output is None,
        )
