"""Durations on the command line: ``90s``, ``30m``, ``8h``, ``2d``."""

from __future__ import annotations

import re

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST = 30 * 86_400


class Duration(click.ParamType[int]):
    """Whole seconds, at most 30 days."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([0-9]{1,7})([smhd])", str(value))
        seconds = int(found[1]) * UNITS[found[2]] if found else 0
        if not 1 <= seconds <= MOST:
            self.fail("write 90s, 30m, 8h or 2d; at most 30d", param, ctx)
        return seconds


def shown(seconds: float) -> str:
    """As short as it can be said: ``2 h``."""
    for unit in "dhm":
        if seconds >= UNITS[unit]:
            return f"{seconds / UNITS[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"
