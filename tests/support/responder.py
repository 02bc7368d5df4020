"""openssl's OCSP responder as a process of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit


@asynccontextmanager
async def openssl_responder(
    directory: Path, *how: str, index: str = "index.txt", signer: str = "root", url: str = ""
) -> AsyncIterator[str]:
    """Answers from ``index`` as it is now, signed by ``signer``'s key; gives its URL, or takes ``url``."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "ocsp", "-port", str(urlsplit(url).port or 0), "-index", index, "-CA", "root.pem",
        "-rsigner", f"{signer}.pem", "-rkey", f"{signer}.key", "-ignore_err", *how,
        cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while not (found := re.search(rb"ACCEPT .*:(\d+) ", await process.stdout.readline())):
                assert process.returncode is None
        yield f"http://127.0.0.1:{int(found[1])}/"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
