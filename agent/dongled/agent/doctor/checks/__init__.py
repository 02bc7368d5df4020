"""The checks of ``dongled doctor``, one a file, in the order in which they are run and shown."""

from __future__ import annotations

from dongled.agent.doctor.api import Check
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks import (
    certificates,
    clock,
    config,
    daemon,
    disk,
    encoder,
    ice,
    metrics,
    permissions,
    restarts,
    sandbox,
    sfu,
    sources,
    token,
)

CHECKS: tuple[Check[TerminalCase], ...] = (
    config.CHECK,
    permissions.CHECK,
    daemon.CHECK,
    restarts.CHECK,
    sandbox.CHECK,
    clock.CHECK,
    *token.CHECKS,
    certificates.CHECK,
    sources.CHECK,
    encoder.CHECK,
    sfu.CHECK,
    ice.CHECK,
    disk.CHECK,
    metrics.CHECK,
)
