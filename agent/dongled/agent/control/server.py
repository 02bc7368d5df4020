"""Serves the control socket to those whom the kernel vouches for."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import socket
from importlib.metadata import version
from pathlib import Path

from asyncvarlink import VarlinkInterfaceRegistry, VarlinkTransport
from asyncvarlink.serviceinterface import VarlinkServiceInterface

from dongled.agent.control.access import Access, Rules, caller_of
from dongled.agent.control.connection import Connection
from dongled.agent.control.interface import ControlInterface
from dongled.agent.errors import AgentError
from dongled.agent.tasks import OwnedTasks
from dongled.agent.unix_socket import bind_unix

log = logging.getLogger(__name__)

MAX_CLIENTS = 32
# So that no user, and nobody who is refused, keeps the others from being served.
MAX_CLIENTS_OF_ONE = 8
MAX_REFUSED = 8
REFUSE_SECONDS = 2.0
ACCEPT_AGAIN = 1.0

# https://varlink.org/Service#errors
DENIED = b'{"error":"org.varlink.service.PermissionDenied"}\0'


class ControlServer:
    """The control socket at ``path``. Members of the group ``operators`` may act, of ``group`` only read."""

    def __init__(
        self, path: Path, interface: ControlInterface, group: str | None = None, operators: str | None = None
    ) -> None:
        self._path = path
        self._groups = (operators, group)
        self._rules = Rules()
        self._registry = VarlinkInterfaceRegistry()
        self._registry.register_interface(
            VarlinkServiceInterface("dongled", "dongled", version("dongled"), "", self._registry)
        )
        self._registry.register_interface(interface)
        self._socket: socket.socket | None = None
        self._accepting = OwnedTasks(lambda error: log.error("nobody can ask any more", exc_info=error))
        self._refusing = OwnedTasks(lambda error: log.error("a refusal failed", exc_info=error))
        self._clients: dict[VarlinkTransport, Connection] = {}

    async def start(self) -> None:
        """Raises AgentError ``control-socket`` when the path cannot be used, ``control-group``."""
        loop = asyncio.get_running_loop()
        self._rules = Rules(*(None if group is None else _number(group) for group in self._groups))
        self._socket = self._bind()
        self._accepting.spawn(self._accept(loop, self._socket))

    def _bind(self) -> socket.socket:
        hint = "Set [control] socket to a path in a directory that this user may write."
        try:
            sock = bind_unix(self._path)
            if self._rules != Rules():
                # A file has one group, and we may give it only our own ones: who is let in, the kernel's
                # word about the caller decides.
                self._path.chmod(0o666)
            sock.listen(MAX_CLIENTS)
        except OSError as error:
            raise AgentError(
                "control-socket", f"Cannot listen on {self._path}: {error.strerror or error}.", hint
            ) from None
        return sock

    async def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is free
                log.warning("the control socket: %s", error.strerror)
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            connection.setblocking(False)
            self._admit(loop, connection)

    def _admit(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        caller = caller_of(connection)
        access = self._rules.access(caller)
        for client in [client for client in self._clients if client.closed_future.done()]:
            del self._clients[client]
        same = sum(client.caller.uid == caller.uid for client in self._clients.values())
        if access is Access.NONE and len(self._refusing) < MAX_REFUSED:
            self._refusing.spawn(_refuse(loop, connection))
        elif (
            access is Access.NONE
            or len(self._clients) >= MAX_CLIENTS
            or (same >= MAX_CLIENTS_OF_ONE and caller.uid != 0)
        ):
            connection.close()
        else:
            protocol = Connection(self._registry, connection, caller, access)
            self._clients[VarlinkTransport(loop, connection, connection, protocol)] = protocol

    async def close(self) -> None:
        await self._accepting.cancel()
        await self._refusing.cancel()
        for client in self._clients:
            client.close()
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)


async def _refuse(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Nothing of what a stranger says is parsed."""
    with connection, contextlib.suppress(OSError):
        async with asyncio.timeout(REFUSE_SECONDS):
            await loop.sock_recv(connection, 4096)
            await loop.sock_sendall(connection, DENIED)


def _number(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise AgentError(
            "control-group", f"There is no group {group!r}.", "Create it or leave it out of [control]."
        ) from None
