"""The Varlink interface of the control socket. https://varlink.org/Interface-Definition"""

# No `from __future__ import annotations`: Varlink's types are read off the annotations at run time.

from collections.abc import Callable

from asyncvarlink import VarlinkInterface, varlinkmethod

from dongled.agent.status import DaemonStatus


class ControlInterface(VarlinkInterface, name="io.dongled.Control"):
    """Watches a running daemon."""

    def __init__(self, status: Callable[[], DaemonStatus]) -> None:
        self._status = status

    @varlinkmethod(return_parameter="status")
    def Status(self) -> DaemonStatus:
        """The token, the meetings, their peers and streams, and what was refused."""
        return self._status()
