"""Asks a running daemon through its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from asyncvarlink import VarlinkClientProtocol, VarlinkErrorReply, connect_unix_varlink
from asyncvarlink.conversion import ConversionError

from dongled.agent.control.interface import ControlInterface, Failed
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus, ReloadStatus, RequestStatus

TIMEOUT = 5.0
# Meetings that end say goodbye, and cameras are closed.
RELOAD_TIMEOUT = 60.0
# A worker starts, and somebody may have to touch a key.
UNLOCK_TIMEOUT = 60.0


async def fetch_status(path: Path) -> DaemonStatus:
    """The daemon's status. Raises AgentError: ``not-running``, ``not-permitted`` or ``no-answer``."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        status: DaemonStatus = (await daemon.Status())["status"]
        return status


async def expel(path: Path, peer: str, reason: str) -> list[str]:
    """Have the daemon expel a peer; from where, and whom. Raises AgentError: also what the daemon says."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        meetings: list[str] = (await daemon.Expel(peer=peer, reason=reason))["meetings"]
        return meetings


async def fetch_requests(path: Path) -> list[RequestStatus]:
    """Who waits for the operator's word, and what it was. Raises AgentError."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        requests: list[RequestStatus] = (await daemon.Requests())["requests"]
        return requests


async def approve(path: Path, request: str, seconds: int | None) -> list[RequestStatus]:
    """Let a request pass; what was approved. Raises AgentError: also what the daemon says."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        requests: list[RequestStatus] = (await daemon.Approve(request=request, seconds=seconds))["requests"]
        return requests


async def deny(path: Path, request: str, seconds: int | None) -> list[RequestStatus]:
    """Refuse a request; what was refused. Raises AgentError: also what the daemon says."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        requests: list[RequestStatus] = (await daemon.Deny(request=request, seconds=seconds))["requests"]
        return requests


async def confirm_time(path: Path, time: str) -> str:
    """Vouch that it is this time (ISO 8601); what the daemon believes now. Raises AgentError."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        now: str = (await daemon.ConfirmTime(time=time))["now"]
        return now


async def reload(path: Path) -> ReloadStatus:
    """Have the daemon read its configuration again. Raises AgentError: also what the daemon says."""
    async with talk(path) as daemon, asyncio.timeout(RELOAD_TIMEOUT):
        done: ReloadStatus = (await daemon.Reload())["done"]
        return done


async def private(path: Path, what: str, peer: str, meeting: str, streams: list[str]) -> str:
    """``what`` is invite, accept or end; says what was done. Raises AgentError."""
    async with talk(path) as daemon, asyncio.timeout(TIMEOUT):
        answer = await daemon.Private(what=what, peer=peer, meeting=meeting, streams=streams)
        return str(answer["done"])


async def unlock(path: Path, pin: str, to_key: bool) -> str:
    """Hand a PIN over; the token's state. Raises AgentError: also what the token says of it."""
    async with talk(path) as daemon, asyncio.timeout(UNLOCK_TIMEOUT):
        state: str = (await daemon.Unlock(pin=pin, to_key=to_key))["state"]
        return state


@asynccontextmanager
async def talk(path: Path) -> AsyncIterator[Any]:
    """A proxy of the daemon's ``ControlInterface``. What fails inside is raised as AgentError."""
    try:
        transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, path)
        try:
            yield protocol.make_proxy(ControlInterface)
        finally:
            transport.close()
    except Failed as error:
        told = error.paramstojson()
        raise AgentError(str(told["reason"]), str(told["text"]), str(told["hint"])) from None
    except VarlinkErrorReply as error:
        raise AgentError(
            "not-permitted",
            f"The daemon refused: {error.name}.",
            "Join the group that [control] operators, or for questions alone [control] group, names.",
        ) from None
    except PermissionError:
        raise AgentError(
            "not-permitted",
            f"You may not open {path}.",
            "Join the group that [control] operators or group names, or use sudo.",
        ) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise AgentError(
            "not-running",
            f"No daemon answers on {path}.",
            "Start it with 'dongled run', or name its socket with --socket or its file with --config.",
        ) from None
    except (ConversionError, JSONDecodeError) as error:
        raise AgentError(
            "other-version",
            f"The daemon on {path} says what this command does not understand: {error}.",
            "Restart the daemon: it is of another version.",
        ) from None
    except (TimeoutError, ConnectionError) as error:
        raise AgentError(
            "no-answer", f"The daemon on {path} did not answer: {error}.", "See its log."
        ) from None
