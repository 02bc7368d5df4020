"""One client of the control socket: what it may call, and how much of the daemon it may use up."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from typing import Any

from asyncvarlink import (
    FileDescriptorArray,
    VarlinkInterfaceRegistry,
    VarlinkInterfaceServerProtocol,
    VarlinkMethodCall,
    VarlinkTransport,
)
from asyncvarlink.serviceinterface import PermissionDenied

from dongled.agent.control.access import Access, Caller, needed
from dongled.agent.control.caller import calling
from dongled.agent.logs.events import Event, about

log = logging.getLogger(__name__)

MAX_CALL = 1 << 16
"""Bytes of a call."""
SEND_SECONDS = 10.0
"""Within which a client takes each answer; one that does not read is hung up on."""
LOOK_EVERY = 1.0
"""Seconds between two looks at whether a client still waits for what runs for it."""


class Connection(VarlinkInterfaceServerProtocol):
    """Answers one call after the other. What runs for a client ends when the client is gone."""

    def __init__(
        self, registry: VarlinkInterfaceRegistry, sock: socket.socket, caller: Caller, access: Access
    ) -> None:
        super().__init__(registry)
        self.caller = caller
        self._socket = sock
        self._access = access
        self._line: VarlinkTransport | None = None
        self._running: asyncio.Future[None] | None = None
        self._unsent: asyncio.Future[None] | None = None
        self._unfinished = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, VarlinkTransport)
        self._line = transport

    def message_received(self, data: bytes, fds: FileDescriptorArray | None) -> None:
        end = data.rfind(b"\0")
        self._unfinished = len(data) + (self._unfinished if end < 0 else -end - 1)
        try:
            super().message_received(data, fds)
        except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, too deep
            self._hang_up()
        if self._unfinished > MAX_CALL:
            self._hang_up()

    def error_received(self, err: Exception, data: bytes, fds: FileDescriptorArray | None) -> None:
        self._hang_up()

    def call_received(
        self, call: VarlinkMethodCall, fds: FileDescriptorArray | None
    ) -> asyncio.Future[None] | None:
        wanted = needed(call.method)
        if self._access < wanted:
            log.warning("user %d may not call %s", self.caller.uid, call.method)
            raise PermissionDenied()
        if wanted is Access.ACT:
            fields = about(Event.CONTROL_CALLED, user=str(self.caller.uid), method=call.method)
            log.info("user %d calls %s", self.caller.uid, call.method, extra=fields)
        self._unsent = None
        calling.set(self.caller.uid)
        running = super().call_received(call, fds)
        # Until this is done no further call is looked at: answers that nobody reads do not pile up.
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if running is not None:
            self._running = running
            running.add_done_callback(lambda _: _pass_on(running, done))
            self._look_after(running)
        elif self._unsent is not None:
            self._unsent.add_done_callback(lambda _: done.set_result(None))
        else:
            return None
        return done

    def send_message(
        self, obj: dict[str, Any], fds: list[int] | None = None, autoclose: bool = True
    ) -> asyncio.Future[None]:
        sent = super().send_message(obj, fds, autoclose)
        deadline = asyncio.get_running_loop().call_later(SEND_SECONDS, self._hang_up)
        sent.add_done_callback(lambda _: deadline.cancel())
        self._unsent = sent
        return sent

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._running is not None:
            self._running.cancel()

    def _look_after(self, running: asyncio.Future[None]) -> None:
        """Nothing is read while something runs, so that nothing says that the client is gone."""
        if running.done():
            return
        if _peer_is_gone(self._socket):
            self._hang_up()
        else:
            asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_after, running)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.abort()


def _peer_is_gone(sock: socket.socket) -> bool:
    """Whoever has only finished asking still waits for an answer: POLLHUP means both ways (poll(2))."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def _pass_on(running: asyncio.Future[None], done: asyncio.Future[None]) -> None:
    if running.cancelled() or (error := running.exception()) is None:
        done.set_result(None)
    else:
        done.set_exception(error)
