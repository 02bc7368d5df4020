"""The Varlink interface of the control socket. https://varlink.org/Interface-Definition"""

# No `from __future__ import annotations`: Varlink's types are read off the annotations at run time.

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Protocol

from asyncvarlink import TypedVarlinkErrorReply, VarlinkInterface, varlinkmethod

from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus, ReloadStatus, RequestStatus

NAME = "io.dongled.Control"


class Controlled(Protocol):
    """What the daemon lets itself be asked and told. Raises AgentError, which travels as ``Failed``."""

    def status(self) -> DaemonStatus: ...

    def expel(self, name: str, reason: str) -> list[str]: ...

    def private(self, what: str, name: str, meeting: str, streams: list[str]) -> str: ...

    def requests(self) -> list[RequestStatus]: ...

    def approve(self, name: str, seconds: int | None) -> list[RequestStatus]: ...

    def deny(self, name: str, seconds: int | None) -> list[RequestStatus]: ...

    def confirm_time(self, time: str) -> str: ...

    async def reload(self) -> ReloadStatus: ...

    async def unlock(self, pin: str, to_key: bool) -> str: ...


class Failed(TypedVarlinkErrorReply, interface=NAME, paramprefix=""):
    """What was asked for was not done: an AgentError's reason, text and hint."""

    class Parameters:
        reason: str
        text: str
        hint: str


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except AgentError as error:
        raise Failed(reason=error.reason, text=str(error), hint=error.hint) from None


class ControlInterface(VarlinkInterface, name=NAME):
    """Watches a running daemon, and acts through it. Who may call what: ``dongled.agent.control.access``."""

    errors = (Failed,)

    def __init__(self, daemon: Controlled) -> None:
        self._daemon = daemon

    @varlinkmethod(return_parameter="status")
    def Status(self) -> DaemonStatus:
        """The token, the meetings, their peers and streams, and what was refused."""
        return self._daemon.status()

    @varlinkmethod(return_parameter="status", delay_generator=False)
    async def Watch(self, every: float) -> AsyncIterator[DaemonStatus]:
        """What Status says, now and again after so many seconds (0.2 to 3600), until hung up."""
        with _failures_told():
            if not 0.2 <= every <= 3600:
                raise AgentError("interval", f"{every} s is no interval.", "Give 0.2 to 3600 seconds.")
        while True:
            yield self._daemon.status()
            await asyncio.sleep(every)

    @varlinkmethod(return_parameter="meetings")
    def Expel(self, peer: str, reason: str) -> list[str]:
        """As a moderator, expel a peer; returns the meetings' names, and whom. Replies ``Failed``."""
        with _failures_told():
            return self._daemon.expel(peer, reason)

    @varlinkmethod(return_parameter="done")
    def Private(self, what: str, peer: str, meeting: str, streams: list[str]) -> str:
        """Invite, accept or end (what) a private session with a peer; says with whom. Replies ``Failed``.

        An empty peer is the only one there is, an empty meeting that in which the peer is.
        """
        with _failures_told():
            return self._daemon.private(what, peer, meeting, streams)

    @varlinkmethod(return_parameter="requests")
    def Requests(self) -> list[RequestStatus]:
        """Who waits for the operator's word, and what it was. Replies ``Failed``."""
        with _failures_told():
            return self._daemon.requests()

    @varlinkmethod(return_parameter="requests")
    def Approve(self, request: str, seconds: int | None) -> list[RequestStatus]:
        """Let a request pass, for so long; returns what was approved. Replies ``Failed``."""
        with _failures_told():
            return self._daemon.approve(request, seconds)

    @varlinkmethod(return_parameter="requests")
    def Deny(self, request: str, seconds: int | None) -> list[RequestStatus]:
        """Refuse a request, and take back what was approved, for so long. Replies ``Failed``."""
        with _failures_told():
            return self._daemon.deny(request, seconds)

    @varlinkmethod(return_parameter="now")
    def ConfirmTime(self, time: str) -> str:
        """Vouch that it is this time (ISO 8601, with its zone); what is believed now. Replies ``Failed``."""
        with _failures_told():
            return self._daemon.confirm_time(time)

    @varlinkmethod(return_parameter="done")
    async def Reload(self) -> ReloadStatus:
        """Read the configuration again. Replies ``Failed`` when it is wrong, and then nothing changed."""
        with _failures_told():
            return await self._daemon.reload()

    @varlinkmethod(return_parameter="state")
    async def Unlock(self, pin: str, to_key: bool) -> str:
        """Try this PIN, of the token or of the FIDO2 key; returns the token's state. Replies ``Failed``."""
        with _failures_told():
            return await self._daemon.unlock(pin, to_key)
