"""What the checks of a terminal look at: its settings, and what a running daemon says of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dongled.agent.control.client import fetch_status
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus
from dongled.config.api import ConfigError, Settings

_CLAIM = "@dongled/identity/"


@dataclass(frozen=True, slots=True)
class TerminalCase:
    """``settings`` None: they cannot be used, and ``trouble`` says why. ``daemon`` None: it was not asked.

    ``unasked`` says why not. ``files`` are those that the settings were read from. While a daemon runs, its
    token and cameras are its own: checks ask it instead.
    """

    settings: Settings | None
    trouble: ConfigError | None = None
    daemon: DaemonStatus | None = None
    unasked: AgentError | None = None
    files: tuple[Path, ...] = ()
    instance: str | None = None

    @property
    def occupied(self) -> bool:
        """A daemon runs here, whether it could be asked or not."""
        silent = self.unasked is not None and self.unasked.reason != "not-running"
        return self.daemon is not None or silent or identity_claimed()


def identity_claimed(sockets: Path = Path("/proc/net/unix")) -> bool:
    """Does any process of this machine hold a terminal's identity (``terminal.IdentityClaim``)?"""
    try:
        return _CLAIM in sockets.read_text(errors="replace")
    except OSError:
        return False


async def asked(case: TerminalCase, socket: Path) -> TerminalCase:
    """The case with what the daemon on ``socket`` says, if one is there."""
    try:
        return replace(case, daemon=await fetch_status(socket))
    except AgentError as error:
        return replace(case, unasked=error)
