"""A daemon's double for the control socket: answers as the daemon would, and remembers nothing."""

from __future__ import annotations

import os

from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus, MeetingStatus, TokenStatus


class ControlledDouble:
    """Knows one peer, ``viewer``, whom it expels from the meeting ``demo``."""

    def status(self) -> DaemonStatus:
        meeting = MeetingStatus("demo", "required", "ws://sfu", "demo", "joined", "", "00" * 16, 1.5)
        meeting.refused = {"chain-untrusted": 2}
        token = TokenStatus("ready", "pkcs11:token=camera", [], 3, 1)
        return DaemonStatus("0", os.getpid(), "", "urn:uuid:x", "camera", 2.0, token, [meeting], [])

    def expel(self, name: str, reason: str) -> list[str]:
        if name != "viewer":
            raise AgentError("no-such-peer", f"Nobody here is called {name!r}.", "See 'dongled status'.")
        return [f"demo: {reason}"]
