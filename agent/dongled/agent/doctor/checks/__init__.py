"""The checks of ``dongled doctor``, one a file, in the order in which they are run and shown."""

from __future__ import annotations

from dongled.agent.doctor.api import Check
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks import clock, config, daemon, disk, encoder, sfu, token

CHECKS: tuple[Check[TerminalCase], ...] = (
    config.CHECK,
    daemon.CHECK,
    clock.CHECK,
    *token.CHECKS,
    encoder.CHECK,
    sfu.CHECK,
    disk.CHECK,
)
