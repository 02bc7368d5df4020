"""Asks a running daemon through its control socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asyncvarlink import VarlinkClientProtocol, VarlinkErrorReply, connect_unix_varlink

from dongled.agent.control.interface import ControlInterface
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus

TIMEOUT = 5.0


async def fetch_status(path: Path) -> DaemonStatus:
    """The daemon's status. Raises AgentError: ``not-running``, ``not-permitted`` or ``no-answer``."""
    try:
        async with asyncio.timeout(TIMEOUT):
            transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, path)
            try:
                answer = await protocol.make_proxy(ControlInterface).Status()
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
        raise AgentError(
            "not-permitted",
            f"The daemon refused: {error.name}.",
            "Join the group that [control] group names.",
        ) from None
    except (TimeoutError, ConnectionError) as error:
        raise AgentError(
            "no-answer", f"The daemon on {path} did not answer: {error}.", "See its log."
        ) from None
    status: DaemonStatus = answer["status"]
    return status
