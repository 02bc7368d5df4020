"""Asks a running daemon through its control socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from asyncvarlink import VarlinkClientProtocol, VarlinkErrorReply, VarlinkTransport
from asyncvarlink.conversion import ConversionError

from dongled.agent.control.interface import ControlInterface, Failed
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus, ReloadStatus, RequestStatus

TIMEOUT = 5.0
# Meetings that end say goodbye, and cameras are closed.
RELOAD_TIMEOUT = 60.0
# A worker starts, and somebody may have to touch a key.
UNLOCK_TIMEOUT = 60.0
CONNECT_AGAIN = 0.05


async def fetch_status(path: Path) -> DaemonStatus:
    """The daemon's status. Raises AgentError: ``not-running``, ``not-permitted`` or ``no-answer``."""
    async with talk(path, TIMEOUT) as daemon:
        status: DaemonStatus = (await daemon.Status())["status"]
        return status


async def expel(path: Path, peer: str, reason: str) -> list[str]:
    """Have the daemon expel a peer; from where, and whom. Raises AgentError: also what the daemon says."""
    async with talk(path, TIMEOUT) as daemon:
        meetings: list[str] = (await daemon.Expel(peer=peer, reason=reason))["meetings"]
        return meetings


async def fetch_requests(path: Path) -> list[RequestStatus]:
    """Who waits for the operator's word, and what it was. Raises AgentError."""
    async with talk(path, TIMEOUT) as daemon:
        requests: list[RequestStatus] = (await daemon.Requests())["requests"]
        return requests


async def approve(path: Path, request: str, seconds: int | None) -> list[RequestStatus]:
    """Let a request pass; what was approved. Raises AgentError: also what the daemon says."""
    async with talk(path, TIMEOUT) as daemon:
        requests: list[RequestStatus] = (await daemon.Approve(request=request, seconds=seconds))["requests"]
        return requests


async def deny(path: Path, request: str, seconds: int | None) -> list[RequestStatus]:
    """Refuse a request; what was refused. Raises AgentError: also what the daemon says."""
    async with talk(path, TIMEOUT) as daemon:
        requests: list[RequestStatus] = (await daemon.Deny(request=request, seconds=seconds))["requests"]
        return requests


async def confirm_time(path: Path, time: str) -> str:
    """Vouch that it is this time (ISO 8601); what the daemon believes now. Raises AgentError."""
    async with talk(path, TIMEOUT) as daemon:
        now: str = (await daemon.ConfirmTime(time=time))["now"]
        return now


async def reload(path: Path) -> ReloadStatus:
    """Have the daemon read its configuration again. Raises AgentError: also what the daemon says."""
    async with talk(path, RELOAD_TIMEOUT) as daemon:
        done: ReloadStatus = (await daemon.Reload())["done"]
        return done


async def private(path: Path, what: str, peer: str, meeting: str, streams: list[str]) -> str:
    """``what`` is invite, accept or end; says what was done. Raises AgentError."""
    async with talk(path, TIMEOUT) as daemon:
        answer = await daemon.Private(what=what, peer=peer, meeting=meeting, streams=streams)
        return str(answer["done"])


async def unlock(path: Path, pin: str, to_key: bool) -> str:
    """Hand a PIN over; the token's state. Raises AgentError: also what the token says of it."""
    async with talk(path, UNLOCK_TIMEOUT) as daemon:
        state: str = (await daemon.Unlock(pin=pin, to_key=to_key))["state"]
        return state


@asynccontextmanager
async def talk(path: Path, seconds: float) -> AsyncIterator[Any]:
    """A proxy of the daemon's ``ControlInterface``, for so long. What fails is raised as AgentError."""
    try:
        async with asyncio.timeout(seconds), _connected(path) as daemon:
            yield daemon
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
    except TimeoutError:
        raise AgentError(
            "no-answer", f"The daemon on {path} did not answer within {seconds:g} s.", "See its log."
        ) from None
    except ConnectionError as error:
        raise AgentError(
            "no-answer", f"The daemon on {path} did not answer: {error}.", "See its log."
        ) from None


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[Any]:
    sock = await _connect(path)
    protocol = VarlinkClientProtocol()
    transport = VarlinkTransport(asyncio.get_running_loop(), sock, sock, protocol)
    try:
        await asyncio.sleep(0)  # until the protocol is told of its transport
        yield protocol.make_proxy(ControlInterface)
    finally:
        transport.close()


async def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                sock.connect(str(path))
                return sock
            except BlockingIOError:
                # Its queue is full (EAGAIN, connect(2)), and nothing tells when it no longer is.
                await asyncio.sleep(CONNECT_AGAIN)
    except BaseException:
        sock.close()
        raise
