"""``dongled enroll``: certificates from the customer's platform, by EST."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.enrolment.enroller import Enrolled, Enroller
    from dongled.config.api import Settings
    from dongled.tokens.api import KeyRole

MAX_WAIT = 86400


@click.command()
@settings_options
@click.option("--renew", is_flag=True, help="Get new certificates even where there are valid ones.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.IntRange(0, MAX_WAIT),
    default=0,
    show_default=True,
    help="How long to wait where somebody has to agree first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def command(choice: SettingsChoice, renew: bool, wait: int, as_json: bool) -> None:
    """Get the certificates that this terminal's keys lack, as [enrolment] says. What is there is kept."""
    shown = asyncio.run(_enrol(choice.load_layers().settings, renew, wait))
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for entry in shown:
        state = "enrolled" if entry["enrolled"] else "valid already"
        kept = "" if entry["on_token"] else ", not on the token but in the state directory"
        until = entry["valid_until"]
        click.echo(f"{entry['role']}: {state}, {entry['terminal']} ({entry['subject']}) until {until}{kept}")


async def _enrol(settings: Settings, renew: bool, wait: int) -> list[dict[str, Any]]:
    from dongled.agent import wiring
    from dongled.agent.enrolment.enroller import ROLES
    from dongled.agent.errors import AgentError
    from dongled.tokens.ledger_file import FileLedger

    if settings.enrolment is None or settings.token is None:
        raise AgentError(
            "no-enrolment", "no certificate platform is configured", "fill in [enrolment] of the settings"
        )
    where, ledger = wiring.places(settings), FileLedger(settings.state.directory)
    clock = await wiring.asked_clock(settings)
    keys = await wiring.key_opener(settings, ledger, where)()
    try:
        enroller = wiring.open_enroller(settings, keys, where, ledger, clock)
        assert enroller is not None
        await enroller.finish()
        done = {}
        for role in ROLES:
            old = enroller.certificate(role)
            if renew or old is None or old.not_valid_after_utc < clock.now():
                done[role] = await _patiently(enroller, role, wait)
        return [_described(enroller, role, done.get(role)) for role in ROLES]
    finally:
        await keys.close()


async def _patiently(enroller: Enroller, role: KeyRole, patience: float) -> Enrolled:
    from dongled.agent.enrolment.est import Pending

    while True:
        try:
            return await enroller.enrol(role)
        except Pending as pending:
            pause = max(1.0, pending.wait)
            if pause > patience:
                raise
            patience -= pause
            await asyncio.sleep(pause)


def _described(enroller: Enroller, role: KeyRole, enrolled: Enrolled | None) -> dict[str, Any]:
    certificate = enroller.certificate(role)
    assert certificate is not None
    return {
        "role": role.value,
        "terminal": enroller.terminal,
        "subject": certificate.subject.rfc4514_string(),
        "valid_until": certificate.not_valid_after_utc.isoformat(),
        "enrolled": enrolled is not None,
        "on_token": enroller.on_token(role),
    }
