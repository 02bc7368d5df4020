"""A session with Janus over a WebSocket: requests with answers, events of handles, its loss told once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus import wire
from dongled.agent.sfu.janus.errors import KINDS
from dongled.agent.sfu.janus.settings import JanusSettings
from dongled.agent.sfu.janus.transactions import (
    Answered,
    Failed,
    HandleEvent,
    Ignored,
    Lost,
    Transactions,
)

OPEN_WITHIN = 5.0
CLOSE_WITHIN = 1.0

_log = logging.getLogger(__name__)
# At debug level websockets logs every frame, and each of ours carries the token and the API secret.
_silent = logging.Logger("dongled.websockets.silent", level=logging.CRITICAL + 1)


class Handle:
    """One plugin handle of the session."""

    def __init__(self, connection: JanusConnection, plugin: str, id: int) -> None:
        self._connection = connection
        self._plugin = plugin
        self.id = id
        self.kind = KINDS[plugin]
        self.on_event: Callable[[HandleEvent], None] = lambda event: None

    async def request(self, body: dict[str, Any], jsep: dict[str, Any] | None = None) -> Answered:
        """Send a message to the plugin; returns its answer. Raises SfuError."""
        fields = {"body": body} if jsep is None else {"body": body, "jsep": jsep}
        return await self._connection.request("message", handle=self.id, expect=self._plugin, **fields)

    async def detach(self) -> None:
        """Give the handle back. Raises SfuError."""
        self._connection.drop(self)
        await self._connection.request("detach", handle=self.id)


class JanusConnection:
    """``lost`` is called once, with a reason, when the session ended without ``close``."""

    def __init__(self, settings: JanusSettings, lost: Callable[[str], None]) -> None:
        self._settings = settings
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transactions = Transactions(settings, self._loop.time())
        self._waiting: dict[str, asyncio.Future[Answered]] = {}
        self._handles: dict[int, Handle] = {}
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._over = False

    async def open(self) -> None:
        """Connect and begin a session. Raises SfuError."""
        try:
            async with asyncio.timeout(OPEN_WITHIN):
                socket = await connect(
                    self._settings.url,
                    ssl=self._tls(),
                    subprotocols=[Subprotocol("janus-protocol")],
                    compression=None,
                    open_timeout=None,
                    ping_interval=None,
                    close_timeout=CLOSE_WITHIN,
                    max_size=wire.MAX_JSON,
                    proxy=None,
                    logger=_silent,
                )
        except ssl.SSLCertVerificationError as error:
            raise SfuError(
                "sfu-certificate",
                f"the SFU's certificate is not trusted: {error.verify_message}",
                "set the CA file that its certificate was issued by",
            ) from None
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as error:
            where = urlsplit(self._settings.url)
            raise SfuError(
                "sfu-unreachable",
                f"no WebSocket at {where.scheme}://{where.netloc.rpartition('@')[2]}: "
                f"{wire.printable(str(error) or type(error).__name__, 160)}",
                "is Janus running, and is its WebSockets transport enabled at this address?",
            ) from None
        if socket.subprotocol != "janus-protocol":
            await socket.close()
            raise SfuError("sfu-protocol", "the server at this address is no Janus", "check the SFU's URL")
        self._socket = socket
        self._tasks = [
            asyncio.create_task(self._read(socket)),
            asyncio.create_task(self._write(socket)),
            asyncio.create_task(self._keep_time()),
        ]
        await self.request("create")

    def _tls(self) -> ssl.SSLContext | None:
        if not self._settings.url.startswith("wss://"):
            return None
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SfuError(
                "sfu-ca-file",
                f"{self._settings.ca_file} cannot be used: {error}",
                "it must be a readable file of PEM certificates",
            ) from None

    @property
    def alive(self) -> bool:
        """Whether the session was neither lost nor closed."""
        return not self._over

    async def attach(self, plugin: str) -> Handle:
        """A new handle of a plugin. Raises SfuError."""
        handle = Handle(self, plugin, (await self.request("attach", plugin=plugin)).id)
        self._handles[handle.id] = handle
        return handle

    def drop(self, handle: Handle) -> None:
        """Hear no more events of this handle."""
        self._handles.pop(handle.id, None)

    async def request(
        self, kind: str, *, handle: int | None = None, expect: str | None = None, **fields: Any
    ) -> Answered:
        """Send a request and wait for its answer. Raises SfuError."""
        if self._over:
            raise SfuError("sfu-gone", "the connection to the SFU is closed")
        transaction, text = self._transactions.request(
            kind, self._loop.time(), handle=handle, expect=expect, **fields
        )
        answer: asyncio.Future[Answered] = self._loop.create_future()
        self._waiting[transaction] = answer
        self._outgoing.put_nowait(text)
        self._wake.set()
        try:
            return await answer
        finally:
            self._transactions.forget(transaction)
            self._waiting.pop(transaction, None)

    async def close(self) -> None:
        """End the session, within a second or so, and raise nothing."""
        if self._socket is None:
            return
        if not self._over:
            try:
                async with asyncio.timeout(CLOSE_WITHIN):
                    await self.request("destroy")
            except (SfuError, TimeoutError):
                _log.debug("the SFU did not confirm the session's end")
        self._over = True
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _log.error("the connection to the SFU failed", exc_info=result)
        self._fail_all()
        await self._socket.close()

    async def _read(self, socket: ClientConnection) -> None:
        reason = "sfu-closed"
        try:
            async for frame in socket:
                if isinstance(frame, str):
                    self._take(self._transactions.receive(frame))
                else:
                    _log.debug("the SFU sent a binary frame: ignored")
        except ConnectionClosed as closed:
            if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                reason = "sfu-oversized"
        finally:
            self._end(reason)

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await socket.send(await self._outgoing.get())
        except ConnectionClosed:
            self._end("sfu-closed")

    async def _keep_time(self) -> None:
        while not self._over:
            self._wake.clear()
            texts, outcomes = self._transactions.poll(self._loop.time())
            for outcome in outcomes:
                self._take(outcome)
            for text in texts:
                self._outgoing.put_nowait(text)
            due = self._transactions.next_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due if due < float("inf") else None):
                    await self._wake.wait()

    def _take(self, outcome: Answered | Failed | HandleEvent | Lost | Ignored | None) -> None:
        match outcome:
            case Answered(transaction=transaction):
                answer = self._waiting.get(transaction)
                if answer is not None and not answer.done():
                    answer.set_result(outcome)
            case Failed(transaction=transaction, error=error):
                answer = self._waiting.get(transaction)
                if answer is not None and not answer.done():
                    answer.set_exception(error)
            case HandleEvent(handle=id):
                handle = self._handles.get(id)
                if handle is not None:
                    self._tell(handle, outcome)
            case Lost(reason=reason):
                self._end(reason)
            case Ignored(why=why):
                _log.debug("ignored from the SFU: %s", why)
            case None:
                pass

    def _tell(self, handle: Handle, event: HandleEvent) -> None:
        try:
            handle.on_event(event)
        except SfuError as error:
            _log.debug("ignored from the SFU: %s", error)

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._fail_all()
        self._wake.set()
        self._lost(reason)

    def _fail_all(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SfuError("sfu-gone", "the connection to the SFU was lost"))
