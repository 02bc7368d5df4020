"""Answers ``GET /metrics`` on this machine: HTTP/1.1 (RFC 9112) as far as Prometheus needs it."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dongled.agent.errors import AgentError
from dongled.agent.unix_socket import bind_unix

MAX_HEAD = 8192  # bytes
TIMEOUT = 5.0  # seconds for a request and its answer
MAX_CLIENTS = 8  # at once; more are hung up on
# https://prometheus.io/docs/instrumenting/exposition_formats/
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """``listen`` is IP:PORT, or the path of a Unix socket, which ``group`` may use too.

    ``render`` makes the exposition.
    """

    def __init__(self, listen: str, render: Callable[[], bytes], group: str | None = None) -> None:
        self._listen = listen
        self._render = render
        self._group = group
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self) -> None:
        """Raises AgentError ``metrics-listen``."""
        try:
            if self._listen.startswith("/"):
                self._server = await asyncio.start_unix_server(self._serve, sock=self._bind(), limit=MAX_HEAD)
            else:
                parts = urlsplit(f"//{self._listen}")
                self._server = await asyncio.start_server(
                    self._serve, parts.hostname, parts.port, limit=MAX_HEAD
                )
        except (OSError, KeyError) as error:
            raise AgentError(
                "metrics-listen",
                f"Cannot listen for metrics on {self._listen}: {getattr(error, 'strerror', None) or error}.",
                "Set [metrics] listen to a free port of this machine, or a free path this user may write.",
            ) from None

    def _bind(self) -> socket.socket:
        path = Path(self._listen)
        bound = bind_unix(path)
        try:
            if self._group is not None:
                os.chown(path, -1, grp.getgrnam(self._group).gr_gid)
                path.chmod(0o660)
        except BaseException:
            bound.close()
            raise
        return bound

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            if self._listen.startswith("/"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._listen)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= MAX_CLIENTS:
            writer.transport.abort()
            return
        self._clients += 1
        try:
            # A client that goes away, sends no head or takes no answer is let go.
            with contextlib.suppress(
                ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
            ):
                async with asyncio.timeout(TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status, body = self._answer(head.decode("latin-1"))
                    writer.write(_response(status, body, bare=head.startswith(b"HEAD ")))
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._clients -= 1
            writer.transport.abort()

    def _answer(self, head: str) -> tuple[str, bytes]:
        line, *fields = head.split("\r\n")
        method, _, target = line.partition(" ")
        target = target.partition(" ")[0]
        if not _ours(fields):
            return "421 Misdirected Request", b"ask by a loopback address\n"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", b"only GET\n"
        if target.partition("?")[0] != "/metrics":
            return "404 Not Found", b"try /metrics\n"
        return "200 OK", self._render()


def _ours(fields: list[str]) -> bool:
    """Not a web page's script whose own host's name was made to lead here (DNS rebinding)."""
    hosts = [
        value.strip()
        for name, _, value in (field.partition(":") for field in fields)
        if name.lower() == "host"
    ]
    try:
        name = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def _response(status: str, body: bytes, *, bare: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if bare else body)
