"""Did systemd have to start the daemon again? It does so quietly, and nobody may have been looking."""

from __future__ import annotations

from collections.abc import Iterable

from dongled.agent.doctor.api import Check, Finding, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.systemd import shown
from dongled.agent.units import unit_of


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.daemon is None:
        return [skipped("no daemon was asked")]
    unit = unit_of(case.instance)
    told = await shown(unit, "MainPID", "NRestarts")
    if told.get("MainPID") != str(case.daemon.pid):
        return [skipped(f"the daemon is not {unit}.service")]
    if told.get("NRestarts") == "0":
        return [ok("it runs since it was started")]
    return [
        warning(
            f"it has ended or hung, and was started again: restarts: {told.get('NRestarts')}",
            f"`journalctl -u {unit} -g 'Failed with result'` says when and by what; "
            f"`systemctl restart {unit}` counts from none",
        )
    ]


CHECK = Check("restarts", "The daemon did not have to be started again", look)
