"""An authorizer's end: the example of the documentation as a process, and one that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from support.openssl import openssl

EXAMPLE = Path(__file__).parents[2] / "docs/examples/authorizer.py"


@contextmanager
def example(allow: Path, *how: str | Path) -> Iterator[str]:
    """The example, ready; gives what it says it is ready on."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLE, "--allow", allow, *how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("ready on "), line
        yield line.removeprefix("ready on ").strip()
    finally:
        process.kill()
        process.wait()


def tls_files(folder: Path) -> None:
    """``ca.pem``, and ``server`` (for 127.0.0.1) and ``client`` by it, each as ``.pem`` and ``.key``."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        folder, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    for who in ("server", "client"):
        openssl(
            folder, "req", "-x509", *new, "-keyout", f"{who}.key", "-out", f"{who}.pem", "-days", "2",
            "-subj", f"/CN={who}", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip


@asynccontextmanager
async def scripted(path: Path, answer: Callable[[dict[str, Any]], bytes | None]) -> AsyncIterator[None]:
    """Answers on a Unix socket with the whole response that ``answer`` makes of the question; None: never."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.partition("content-length:")[2].split("\r\n")[0])
            response = answer(json.loads(await reader.readexactly(size)))
            if response is None:
                await asyncio.Event().wait()
            else:
                writer.write(response)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        await asyncio.to_thread(path.unlink, missing_ok=True)
