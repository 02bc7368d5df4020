"""Asks a running daemon through its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from asyncvarlink import VarlinkClientProtocol, VarlinkErrorReply, connect_unix_varlink

from dongled.agent.control.interface import ControlInterface, Failed
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus

TIMEOUT = 5.0


async def fetch_status(path: Path) -> DaemonStatus:
    """The daemon's status. Raises AgentError: ``not-running``, ``not-permitted`` or ``no-answer``."""
    status: DaemonStatus = (await _ask(path, lambda daemon: daemon.Status()))["status"]
    return status


async def expel(path: Path, peer: str, reason: str) -> list[str]:
    """Have the daemon expel a peer; the meetings' names. Raises AgentError: also what the daemon says."""
    meetings: list[str] = (await _ask(path, lambda daemon: daemon.Expel(peer=peer, reason=reason)))[
        "meetings"
    ]
    return meetings


async def _ask(path: Path, what: Callable[[Any], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(TIMEOUT):
            transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, path)
            try:
                return await what(protocol.make_proxy(ControlInterface))
            finally:
                transport.close()
    except PermissionError:
        raise AgentError(
            "not-permitted",
            f"You may not open {path}.",
            "Join the group that [control] group names, or use sudo.",
        ) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise AgentError(
            "not-running",
            f"No daemon answers on {path}.",
            "Start it with 'dongled run', or name its socket with --socket or its file with --config.",
        ) from None
    except VarlinkErrorReply as error:
        if error.name == Failed.name:
            told = error.paramstojson()
            raise AgentError(str(told["reason"]), str(told["text"]), str(told["hint"])) from None
        raise AgentError(
            "not-permitted",
            f"The daemon refused: {error.name}.",
            "Join the group that [control] group names.",
        ) from None
    except (TimeoutError, ConnectionError) as error:
        raise AgentError(
            "no-answer", f"The daemon on {path} did not answer: {error}.", "See its log."
        ) from None
