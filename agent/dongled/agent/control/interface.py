"""The Varlink interface of the control socket. https://varlink.org/Interface-Definition"""

# No `from __future__ import annotations`: Varlink's types are read off the annotations at run time.

from typing import Protocol

from asyncvarlink import TypedVarlinkErrorReply, VarlinkInterface, varlinkmethod

from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus

NAME = "io.dongled.Control"


class Controlled(Protocol):
    """What the daemon lets itself be asked and told. Raises AgentError, which travels as ``Failed``."""

    def status(self) -> DaemonStatus: ...

    def expel(self, name: str, reason: str) -> list[str]: ...


class Failed(TypedVarlinkErrorReply, interface=NAME, paramprefix=""):
    """What was asked for was not done: an AgentError's reason, text and hint."""

    class Parameters:
        reason: str
        text: str
        hint: str


class ControlInterface(VarlinkInterface, name=NAME):
    """Watches a running daemon, and acts through it."""

    def __init__(self, daemon: Controlled) -> None:
        self._daemon = daemon

    @varlinkmethod(return_parameter="status")
    def Status(self) -> DaemonStatus:
        """The token, the meetings, their peers and streams, and what was refused."""
        return self._daemon.status()

    @varlinkmethod(return_parameter="meetings")
    def Expel(self, peer: str, reason: str) -> list[str]:
        """As a moderator, expel a peer; returns the names of the meetings. Replies ``Failed``."""
        try:
            return self._daemon.expel(peer, reason)
        except AgentError as error:
            raise Failed(reason=error.reason, text=str(error), hint=error.hint) from None
