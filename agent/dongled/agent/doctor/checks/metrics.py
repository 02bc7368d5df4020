"""Do the figures for Prometheus come, where somebody is to have them?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

from dongled.agent.doctor.api import Check, Finding, failed, ok, skipped
from dongled.agent.doctor.case import TerminalCase

_MOST = 1 << 20  # bytes
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def look(case: TerminalCase) -> Iterable[Finding]:
    listen = case.settings.metrics.listen if case.settings else None
    if listen is None:
        return [skipped("nobody is to have them: metrics.listen is not set")]
    if not case.occupied:
        return [skipped("no daemon runs")]
    try:
        answer = await _ask(listen)
    except PermissionError:
        return [skipped(f"you may not open {listen}", "control.group says who may")]
    except OSError as error:
        hint = "metrics.listen waits for a restart of the daemon, or another program has taken it"
        return [failed(f"nobody answers on {listen}: {error.strerror or error}", hint)]
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or b"\ndongled_info{" not in body:
        return [failed(f"what answers on {listen} is not this daemon", "choose another metrics.listen")]
    return [ok(f"{listen} answers with {body.count(bytes([10]))} lines")]


async def _ask(listen: str) -> bytes:
    """Raises OSError."""
    if listen.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(listen)
    else:
        parts = urlsplit(f"//{listen}")
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(_REQUEST)
        answer = b""
        while len(answer) < _MOST and (more := await reader.read(_MOST - len(answer))):
            answer += more
        return answer
    finally:
        writer.close()


CHECK = Check("metrics", "Prometheus gets its figures", look, patience=5.0)
