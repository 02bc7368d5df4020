"""``dongled token doctor`` and ``bench``: what is wrong with the configured token, and how fast it is."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from dongled.agent.cli.errors import reporting_errors
from dongled.agent.cli.options import SettingsChoice, settings_options

if TYPE_CHECKING:
    from dongled.agent.doctor.api import Result
    from dongled.agent.doctor.token.load import Load
    from dongled.config.api import Settings
    from dongled.tokens.measure import Timing
    from dongled.tokens.opened import OpenedToken

MOST_SECONDS = 60.0
MOST_OPERATIONS = 10_000


@click.command("doctor")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def doctor_command(choice: SettingsChoice, as_json: bool) -> None:
    """Look for what is wrong with the configured token, and say what to do.

    The token is logged in to, with the one try that a PIN has, unless a daemon uses it. Nothing on it is
    changed. The exit status is 0, 3 for a warning, 4 where something failed, 5 where no meeting can work.
    """
    from dongled.agent.doctor.show import as_json as to_json
    from dongled.agent.doctor.show import exit_status

    results = asyncio.run(_examine(_settings(choice), show=not as_json))
    if as_json:
        click.echo(json.dumps(to_json(results), indent=2))
    sys.exit(exit_status(results))


def _settings(choice: SettingsChoice) -> Settings:
    from dongled.tokens.errors import TokenError

    settings = choice.load()
    if settings.token is None:
        raise TokenError("no-token", "no token is configured", "fill in [token] of the settings")
    return settings


async def _examine(settings: Settings, *, show: bool) -> list[Result]:
    from dongled.agent.doctor.case import identity_claimed
    from dongled.agent.doctor.examination import examine
    from dongled.agent.doctor.show import lines, summary
    from dongled.agent.doctor.token import TOKEN_CHECKS
    from dongled.agent.doctor.token.case import token_case
    from dongled.tokens.ledger_file import FileLedger

    ledger = FileLedger(settings.state.directory)
    case, results = token_case(settings, ledger, occupied=identity_claimed()), []
    try:
        async for result in examine(TOKEN_CHECKS, case):
            results.append(result)
            if show:
                for line in lines(result):
                    click.echo(line)
    finally:
        await case.close()
    if show:
        click.echo(summary(results))
    return results


@click.command("bench")
@settings_options
@click.option(
    "--seconds", type=click.FloatRange(0.1, MOST_SECONDS), default=3.0, show_default=True,
    help="How long each operation is measured at most.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(1, MOST_OPERATIONS), default=200, show_default=True,
    help="How often it is done at most.",
)  # fmt: skip
@click.option(
    "--cameras", type=click.IntRange(1, 64), default=10, show_default=True,
    help="How many cameras the meeting has that the result is put in terms of.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reporting_errors()
def bench_command(
    choice: SettingsChoice, seconds: float, count: int, cameras: int, yes: bool, as_json: bool
) -> None:
    """Measure how fast the configured token signs and agrees on keys, and what that means for meetings.

    A card's keys may want a touch or a PIN at each use, so a card is used only after asking.
    """
    from dataclasses import asdict

    from dongled.agent.doctor.token.load import load

    settings = _settings(choice)
    sign, derive = asyncio.run(_bench(settings, seconds, count, yes))
    means = load(cameras, sign, derive)
    if as_json:
        click.echo(json.dumps({"sign": asdict(sign), "derive": asdict(derive), "load": asdict(means)}))
        return
    for name, timing in (("sign", sign), ("derive", derive)):
        click.echo(_line(name, timing))
    for line in _meaning(means):
        click.echo(line)


async def _bench(settings: Settings, seconds: float, count: int, yes: bool) -> tuple[Timing, Timing]:
    from dongled.agent import wiring
    from dongled.agent.terminal import IdentityClaim
    from dongled.tokens import measure
    from dongled.tokens.ledger_file import FileLedger

    ledger = FileLedger(settings.state.directory)
    keys = await wiring.key_opener(settings, ledger, wiring.places(settings))()
    try:
        # A daemon's token has other things to do.
        claim = IdentityClaim(keys.identity.point)
        try:
            if not yes:
                _ask(keys, count)
            sign, derive = measure.operations(keys)
            return (
                await measure.measure(sign, seconds, count),
                await measure.measure(derive, seconds, count),
            )
        finally:
            claim.release()
    finally:
        await keys.close()


def _ask(keys: OpenedToken, count: int) -> None:
    """Of a card only: nobody can tell from outside what its keys want."""
    from dongled.tokens.errors import TokenError
    from dongled.tokens.quirks import Watch

    if not any(part.watch is Watch.READER for part in keys.parts.values()):
        return
    if not sys.stdin.isatty():
        raise TokenError(
            "bench-unasked", "a card's keys may want a touch each time, and nobody is here", "give --yes"
        )
    text = f"{count} signatures and as many key agreements; a key may want a touch for each. Go on?"
    click.confirm(text, abort=True)


def _line(name: str, timing: Timing) -> str:
    return (
        f"{name:<7} {timing.rate:8.1f} /s   p50 {1000 * timing.p50:.1f} ms   p95 {1000 * timing.p95:.1f} ms"
        f"   ({timing.count} measured)"
    )


def _meaning(load: Load) -> list[str]:
    worst = max(load.presence, load.keys)
    lines = [
        f"a meeting of {load.cameras} cameras: {load.join:.2f} s of the token from joining to every key",
        f"beacons and announcements take {100 * load.presence:.2f} % of it, "
        f"keys of {load.cameras} cameras {100 * load.keys:.2f} %",
    ]
    if worst > 0.5:
        lines.append("that is too slow a token for such a meeting")
    return lines
