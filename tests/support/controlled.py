"""A daemon's double for the control socket: answers as the daemon would, and remembers nothing."""

from __future__ import annotations

import os

from dongled.agent.control.caller import caller
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus, MeetingStatus, ReloadStatus, RequestStatus, TokenStatus


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

    def private(self, what: str, name: str, meeting: str, streams: list[str]) -> str:
        return f"{what}: {name}"

    def requests(self) -> list[RequestStatus]:
        return [self._request("pending", "", None)]

    def approve(self, name: str, seconds: int | None) -> list[RequestStatus]:
        if name != "abcd":
            raise AgentError("no-such-request", f"Nobody asks as {name!r}.", "See 'dongled requests'.")
        return [self._request("approved", caller(), seconds)]

    def deny(self, name: str, seconds: int | None) -> list[RequestStatus]:
        return [self._request("denied", caller(), seconds)]

    def _request(self, state: str, by: str, left: int | None) -> RequestStatus:
        terminal = "urn:uuid:00000000-0000-4000-8000-000000000001"
        who = ("abcd", "demo", terminal, "viewer", ["viewer"], "hardware", "ab" * 32)
        return RequestStatus(*who, ["camera"], [], state, by, 61.0, left)

    def confirm_time(self, time: str) -> str:
        if time == "noon":
            raise AgentError("time-format", "'noon' is no time.", "Write it with its zone.")
        return time

    async def reload(self) -> ReloadStatus:
        return ReloadStatus(["demo"], [], [], ["token.uri"])

    async def unlock(self, pin: str, to_key: bool) -> str:
        raise AgentError("pin-wrong", "the token refused the PIN", "Make sure.")
