"""One worker process and the socket to it: start, ask, kill."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

from dongled.tokens.errors import TokenError
from dongled.tokens.failures import DeadlinePassed, ModuleFault, WorkerLost
from dongled.tokens.wire import HEADER_BYTES, WireError, body_length, frame, parse

START_DEADLINE = 20.0
CLOSE_GRACE = 2.0


class WorkerLink:
    """A running worker whose module is loaded.

    Not for concurrent use; once a request was cancelled, for nothing but ``close`` and ``kill``, since the
    answer to it would be taken for that to the next.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._last_request = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    @classmethod
    async def start(cls, module: str) -> WorkerLink:
        """Start a worker for a module. Raises TokenError when the module cannot be loaded."""
        _check_exists(module)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # -P: nothing is imported from whatever directory the daemon happens to run in.
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "dongled.tokens.worker",
                    str(theirs.fileno()), module, str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        link = cls(process, reader, writer)
        try:
            await link._answer(0, "start", START_DEADLINE)
        except ModuleFault as fault:
            await link.kill()
            raise TokenError(
                "module-unusable",
                f"{module} cannot be used as a PKCS#11 module: {fault.text or fault.name}",
                "is it the right file, and its own configuration in place?",
            ) from None
        except BaseException:
            await link.kill()
            raise
        return link

    async def request(self, operation: str, arguments: dict[str, Any], deadline: float) -> Any:
        """Ask the worker and wait. Raises TokenError; after WorkerLost or DeadlinePassed it is dead."""
        self._last_request += 1
        try:
            self._writer.write(frame({"id": self._last_request, "op": operation, "args": arguments}))
        except WireError:
            raise TokenError("too-large", f"the {operation} request is too large") from None
        return await self._answer(self._last_request, operation, deadline)

    async def _answer(self, request: int, operation: str, deadline: float) -> Any:
        try:
            async with asyncio.timeout(deadline):
                await self._writer.drain()
                length = body_length(await self._reader.readexactly(HEADER_BYTES))
                answer = parse(await self._reader.readexactly(length))
        except TimeoutError:
            await self.kill()
            raise DeadlinePassed(operation, deadline) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.kill()
            raise WorkerLost(self._exit()) from None
        except WireError as error:
            await self.kill()
            raise WorkerLost(str(error)) from None
        match answer:
            case {"id": answered, "ok": result} if answered == request:
                return result
            case {"id": answered, "refused": [str(reason), str(message), str(hint)]} if answered == request:
                raise TokenError(reason, message, hint)
            case {"id": answered, "fault": [str(name), str(text)]} if answered == request:
                raise ModuleFault(name, text)
        await self.kill()
        raise WorkerLost("it answered something else")

    async def close(self) -> None:
        """End the worker in good order: it logs out with its session's end."""
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        self._writer.close()
        await self._process.wait()

    def _exit(self) -> str:
        code = self._process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _check_exists(module: str) -> None:
    if "/" in module and not Path(module).exists():
        raise TokenError(
            "module-missing",
            f"there is no PKCS#11 module {module}",
            "install the token's module, or name the right path",
        )
