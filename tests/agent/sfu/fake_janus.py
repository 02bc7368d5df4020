"""A scripted Janus: answers like a good one, but for what a test changes; and what else a room needs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from dongled.agent.sfu.api import Feed
from dongled.agent.sfu.janus.errors import VIDEOROOM
from dongled.agent.sfu.janus.room import JanusRoom, JanusSettings

Message = dict[str, Any]
OFFER = {"type": "offer", "sdp": "v=0 offer"}


class Listener:
    """Records what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._new = asyncio.Event()

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self._new.set()

    def feed_published(self, feed: Feed) -> None:
        self._tell("published", feed)

    def feed_gone(self, feed_id: str) -> None:
        self._tell("gone", feed_id)

    def bus_message(self, source: str, message: bytes) -> None:
        self._tell("message", source, message)

    def bus_member_left(self, source: str) -> None:
        self._tell("left", source)

    def bus_refused(self, source: str, reason: str) -> None:
        self._tell("refused", source, reason)

    def connection_lost(self, reason: str) -> None:
        self._tell("lost", reason)

    async def wait(self, count: int) -> list[tuple[Any, ...]]:
        """What was told, once that are at least ``count``."""
        async with asyncio.timeout(30):
            while len(self.told) < count:
                self._new.clear()
                await self._new.wait()
        return self.told

    async def wait_for(self, *what: Any) -> None:
        """Until exactly this was told."""
        async with asyncio.timeout(30):
            while what not in self.told:
                self._new.clear()
                await self._new.wait()


class FakePeer:
    """A peer connection, offering or answering, that does nothing."""

    def __init__(self) -> None:
        self.accepted = ""
        self.closed = asyncio.Event()

    async def offer(self) -> str:
        return "v=0 our offer"

    async def accept(self, answer: str) -> None:
        self.accepted = answer

    async def answer(self, offer: str) -> str:
        self.accepted = offer
        return "v=0 our answer"

    async def close(self) -> None:
        self.closed.set()


class FakeLink(FakePeer):
    """A text link whose other end is ``FakeJanus.channel``."""

    def __init__(self, janus: FakeJanus) -> None:
        super().__init__()
        self.janus = janus
        self.text: Callable[[str], None] = lambda text: None
        self.gone: Callable[[], None] = lambda: None

    async def wait_open(self) -> None:
        pass

    def send(self, text: str) -> None:
        message = json.loads(text)
        self.janus.channel.append(message)
        answer = self.janus.bus_answers.get(message["textroom"], {"textroom": "success"})
        if answer is not None and message.get("ack") is not False:
            whole = json.dumps({**answer, "transaction": message["transaction"]})
            asyncio.get_running_loop().call_soon(self.text, whole)

    def on_text(self, callback: Callable[[str], None]) -> None:
        self.text = callback

    def on_closed(self, callback: Callable[[], None]) -> None:
        self.gone = callback

    def tell(self, message: Message) -> None:
        """The SFU sends this over the channel."""
        self.text(json.dumps(message))


class FakeJanus:
    """``script`` maps a request's name to an answer: plugin data, with ``jsep`` inside where there is one.

    An answer may be a callable that is given the request; None means silence. ``requests`` and
    ``channel`` record what came over the session and over the bus.
    """

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.channel: list[Message] = []
        self.bus_answers: dict[str, Message | None] = {}
        self.links: list[FakeLink] = []
        self.plugins: dict[int, str] = {}
        self.socket: ServerConnection | None = None
        self.script: dict[str, Any] = {
            "create-session": {"data": {"id": 1}},
            "attach": self._attach,
            "keepalive": None,
            "detach": {},
            "destroy": {},
            "exists": {"exists": True},
            "create": {"created": True},
            "setup": {"result": "ok", "jsep": OFFER},
            "ack": {"result": "ok"},
            "join": self._join,
            "publish": {"configured": "ok", "jsep": {"type": "answer", "sdp": "v=0 answer"}},
            "start": {"started": "ok"},
        }
        self.server: Server | None = None
        self.joins = 0
        self._asked = asyncio.Event()

    def _attach(self, message: Message) -> Message:
        handle = 10 + len(self.plugins)
        self.plugins[handle] = message["plugin"]
        return {"data": {"id": handle}}

    def _join(self, message: Message) -> Message:
        if message["body"]["ptype"] == "subscriber":
            return {"videoroom": "attached", "jsep": OFFER}
        self.joins += 1
        return {"videoroom": "joined", "id": f"own-{self.joins}", "private_id": 7, "publishers": []}

    async def __aenter__(self) -> FakeJanus:
        self.server = await serve(
            self._serve, "127.0.0.1", 0, subprotocols=[Subprotocol("janus-protocol")], close_timeout=0.2
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()
        await self.server.wait_closed()

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"ws://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    def link(self) -> FakeLink:
        self.links.append(FakeLink(self))
        return self.links[-1]

    async def _serve(self, socket: ServerConnection) -> None:
        self.socket = socket
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                message = json.loads(text)
                self.requests.append(message)
                self._asked.set()
                await self._answer(socket, message)

    async def _answer(self, socket: ServerConnection, message: Message) -> None:
        kind = message["janus"]
        name = message["body"]["request"] if kind == "message" else kind
        if kind == "create":
            name = "create-session"
        answer = self.script[name]
        answer = answer(message) if callable(answer) else answer
        if answer is None:
            return
        whole: Message = {"janus": "success", "transaction": message["transaction"]}
        if "janus" in answer or kind != "message":
            whole |= answer
        else:
            jsep = {"jsep": answer["jsep"]} if "jsep" in answer else {}
            data = {name: value for name, value in answer.items() if name != "jsep"}
            plugin = self.plugins[message["handle_id"]]
            whole |= {"janus": "event", "plugindata": {"plugin": plugin, "data": data}, **jsep}
        await socket.send(json.dumps(whole))

    def handle(self, plugin: str = VIDEOROOM, index: int = 0) -> int:
        """The id of the plugin's handle that was attached as the ``index``th."""
        return [handle for handle, name in self.plugins.items() if name == plugin][index]

    async def tell(self, handle: int, **data: Any) -> None:
        """An event of a handle."""
        plugin = {"plugin": self.plugins[handle], "data": data}
        await self.send({"janus": "event", "sender": handle, "plugindata": plugin})

    async def send(self, message: Message | str | bytes) -> None:
        """Whatever the test wants the client to get."""
        assert self.socket is not None
        await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def asked(self, kind: str, count: int = 1) -> None:
        """Until so many requests of the session or of a plugin had this name."""
        async with asyncio.timeout(30):
            while sum(kind in (r["janus"], r.get("body", {}).get("request")) for r in self.requests) < count:
                self._asked.clear()
                await self._asked.wait()

    def bodies(self, name: str) -> list[Message]:
        """The bodies of the requests of this name."""
        bodies = [message["body"] for message in self.requests if message["janus"] == "message"]
        return [body for body in bodies if body["request"] == name]


def settings(janus: FakeJanus, **changes: Any) -> JanusSettings:
    defaults: dict[str, Any] = {"url": janus.url, "room": "lab", "token": "tok-3n", "api_secret": "s3cr3t"}
    return JanusSettings(**{**defaults, **changes})


@contextlib.asynccontextmanager
async def joined(
    janus: FakeJanus, listener: Listener, member: str = "alice", **changes: Any
) -> AsyncIterator[JanusRoom]:
    room = JanusRoom(settings(janus, **changes), listener, janus.link)
    await room.join(member)
    try:
        yield room
    finally:
        await room.leave()
