"""Serves the control socket to those whom the kernel vouches for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
import struct
from importlib.metadata import version
from pathlib import Path
from typing import cast

from asyncvarlink import (
    FileDescriptorArray,
    VarlinkInterfaceRegistry,
    VarlinkInterfaceServerProtocol,
    VarlinkMethodCall,
    VarlinkTransport,
)
from asyncvarlink.serviceinterface import PermissionDenied, VarlinkServiceInterface

from dongled.agent.control.interface import ControlInterface
from dongled.agent.errors import AgentError

MAX_CLIENTS = 32


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """User and group id of the process at the other end (SO_PEERCRED, unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, gid = cast(tuple[int, int, int], struct.unpack("3i", credentials))
    return uid, gid


def may_call(uid: int, gid: int, group: str | None) -> bool:
    """Root, this process's own user and the members of ``group`` may; a supplementary group counts."""
    if uid in (0, os.geteuid()):
        return True
    if group is None:
        return False
    try:
        members = grp.getgrnam(group)
        return gid == members.gr_gid or pwd.getpwuid(uid).pw_name in members.gr_mem
    except KeyError:
        return False


class RefusingProtocol(VarlinkInterfaceServerProtocol):
    """Answers every call of somebody who may not call."""

    def call_received(
        self, call: VarlinkMethodCall, fds: FileDescriptorArray | None
    ) -> asyncio.Future[None] | None:
        raise PermissionDenied()


class ControlServer:
    """The control socket at ``path``, for whom ``may_call`` lets in."""

    def __init__(self, path: Path, interface: ControlInterface, group: str | None = None) -> None:
        self._path = path
        self._group = group
        self._registry = VarlinkInterfaceRegistry()
        self._registry.register_interface(
            VarlinkServiceInterface("dongled", "dongled", version("dongled"), "", self._registry)
        )
        self._registry.register_interface(interface)
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._clients: set[VarlinkTransport] = set()

    async def start(self) -> None:
        """Raises AgentError ``control-socket`` when the path cannot be used."""
        loop = asyncio.get_running_loop()
        self._socket = self._bind()
        self._accepting = loop.create_task(self._accept(loop, self._socket))

    def _bind(self) -> socket.socket:
        hint = "Set [control] socket to a path in a directory that this user may write."
        try:
            if self._path.exists():
                self._remove_stale()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            # Nobody may connect between bind and chmod: the mode is the directory's affair until then.
            umask = os.umask(0o177)
            try:
                sock.bind(str(self._path))
            finally:
                os.umask(umask)
            if self._group is not None:
                os.chown(self._path, -1, grp.getgrnam(self._group).gr_gid)
                self._path.chmod(0o660)
            sock.listen(MAX_CLIENTS)
        except KeyError:
            raise AgentError(
                "control-group",
                f"There is no group {self._group!r}.",
                "Create it or leave [control] group out.",
            ) from None
        except OSError as error:
            raise AgentError(
                "control-socket", f"Cannot listen on {self._path}: {error.strerror or error}.", hint
            ) from None
        return sock

    def _remove_stale(self) -> None:
        if not stat.S_ISSOCK(self._path.stat().st_mode):
            raise OSError(errno.EEXIST, "something that is not a socket is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
        raise OSError(errno.EADDRINUSE, "another daemon answers there")

    async def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._clients = {client for client in self._clients if not client.closed_future.done()}
            if len(self._clients) >= MAX_CLIENTS:
                connection.close()
                continue
            connection.setblocking(False)
            if may_call(*peer_of(connection), self._group):
                protocol = VarlinkInterfaceServerProtocol(self._registry)
            else:
                protocol = RefusingProtocol(self._registry)
            self._clients.add(VarlinkTransport(loop, connection, connection, protocol))

    async def close(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
        for client in self._clients:
            client.close()
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
