"""Janus's transactions as a state machine: requests and texts in, texts and outcomes out. Sans-IO.

The rules (https://janus.conf.meetecho.com/docs/rest.html, "The /janus API", and its WebSockets section):
each request names a ``transaction``; a message to a plugin is first acknowledged (``ack``) and answered
later by an ``event`` of the same transaction, or at once by ``success``; everything else is answered by
``success`` or ``error``; a keepalive by ``ack`` alone. What has no transaction is an event of a handle.
A session dies 60 s after its last request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus import errors, wire
from dongled.agent.sfu.janus.settings import JanusSettings

# Seconds: how long an answer may take, and how often Janus is asked for a sign of life.
ANSWER_WITHIN = 5.0
KEEPALIVE_EVERY = 5.0
MAX_OUTSTANDING = 256


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a transaction: ``id`` of a new session or handle, or a plugin's ``data``."""

    transaction: str
    id: int
    data: wire.Json
    jsep: wire.Jsep | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A transaction that was refused or got no answer in time."""

    transaction: str
    error: SfuError


@dataclass(frozen=True, slots=True)
class HandleEvent:
    """Something happened on a handle. ``kind``: ``event`` (with ``data``), ``hangup``, ``detached``..."""

    handle: int
    kind: str
    data: wire.Json
    jsep: wire.Jsep | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that is malformed, or that nobody asked for."""

    why: str


Outcome = Answered | Failed | HandleEvent | Lost | Ignored


@dataclass(slots=True)
class _Outstanding:
    kind: str
    plugin: str | None
    due: float


class Transactions:
    """One session. Times are seconds of one monotonic clock."""

    def __init__(self, settings: JanusSettings, now: float) -> None:
        self._settings = settings
        secrets = {"token": settings.token, "apisecret": settings.api_secret}
        self._secrets = {name: value for name, value in secrets.items() if value is not None}
        self._outstanding: dict[str, _Outstanding] = {}
        self._count = 0
        self._session: int | None = None
        self._keepalive_at = now + KEEPALIVE_EVERY

    def request(
        self, kind: str, now: float, *, handle: int | None = None, expect: str | None = None, **fields: Any
    ) -> tuple[str, str]:
        """A request of this kind; returns its transaction and the text to send.

        ``expect`` is the plugin whose answer is awaited. Raises SfuError ``sfu-busy`` when too many have
        no answer yet.
        """
        if len(self._outstanding) >= MAX_OUTSTANDING:
            raise SfuError("sfu-busy", f"{MAX_OUTSTANDING} requests without an answer")
        self._count += 1
        transaction = str(self._count)
        message: dict[str, Any] = {"janus": kind, "transaction": transaction, **self._secrets, **fields}
        if self._session is not None:
            message["session_id"] = self._session
        if handle is not None:
            message["handle_id"] = handle
        self._outstanding[transaction] = _Outstanding(kind, expect, now + ANSWER_WITHIN)
        self._keepalive_at = now + KEEPALIVE_EVERY
        return transaction, json.dumps(message)

    def forget(self, transaction: str) -> None:
        """Nobody waits for this answer any more."""
        self._outstanding.pop(transaction, None)

    def next_due(self) -> float:
        """When ``poll`` has something to do."""
        dues = [outstanding.due for outstanding in self._outstanding.values()]
        return (
            min([self._keepalive_at, *dues]) if self._session is not None else min(dues, default=float("inf"))
        )

    def poll(self, now: float) -> tuple[list[str], list[Outcome]]:
        """What to send now, and what ran out of time."""
        texts: list[str] = []
        outcomes: list[Outcome] = []
        for transaction, outstanding in list(self._outstanding.items()):
            if now < outstanding.due:
                continue
            del self._outstanding[transaction]
            if outstanding.kind == "keepalive":
                outcomes.append(Lost("sfu-silent"))
            else:
                why = f"no answer to {outstanding.kind!r} in {ANSWER_WITHIN:.0f} s"
                outcomes.append(Failed(transaction, SfuError("sfu-timeout", why)))
        if self._session is not None and now >= self._keepalive_at:
            texts.append(self.request("keepalive", now)[1])
        return texts, outcomes

    def receive(self, text: str) -> Outcome | None:
        """Take one message from Janus. None: an ``ack`` whose answer is still to come."""
        try:
            return self._receive(wire.read_object(text))
        except SfuError as error:
            return Ignored(str(error))

    def _receive(self, message: wire.Json) -> Outcome | None:
        kind = wire.name(message, "janus", 32)
        if "transaction" not in message:
            return self._event(kind, message)
        transaction = wire.name(message, "transaction", 32)
        outstanding = self._outstanding.get(transaction)
        if outstanding is None:
            return Ignored("an answer to no request of ours")
        if kind == "ack":
            if outstanding.kind == "keepalive":
                self.forget(transaction)
            return None
        self.forget(transaction)
        try:
            return self._answer(kind, transaction, outstanding, message)
        except SfuError as error:
            return Failed(transaction, error)

    def _answer(
        self, kind: str, transaction: str, outstanding: _Outstanding, message: wire.Json
    ) -> Answered | Lost:
        if kind == "error":
            error = self._refusal(errors.CORE, wire.mapping(message, "error"), "code", "reason")
            if outstanding.kind == "keepalive":
                return Lost(error.reason)
            raise error
        if kind not in ("success", "event"):
            raise wire.malformed("an answer of an unknown kind")
        identity = 0
        data: wire.Json = {}
        offered = None
        if outstanding.kind in ("create", "attach"):
            identity = wire.integer(wire.mapping(message, "data"), "id")
            if outstanding.kind == "create":
                self._session = identity
        elif outstanding.plugin is not None:
            data = self._plugin_data(message, outstanding.plugin)
            offered = wire.jsep(message)
        return Answered(transaction, identity, data, offered)

    def _event(self, kind: str, message: wire.Json) -> Outcome:
        if kind == "timeout":
            return Lost("session-timeout")
        if kind == "error":
            return Ignored("an error of no transaction")
        handle = wire.integer(message, "sender")
        if kind != "event":
            return HandleEvent(handle, kind, {}, None)
        data = wire.mapping(wire.mapping(message, "plugindata"), "data")
        return HandleEvent(handle, kind, data, wire.jsep(message))

    def _plugin_data(self, message: wire.Json, plugin: str) -> wire.Json:
        answer = wire.mapping(message, "plugindata")
        if answer.get("plugin") != plugin:
            raise wire.malformed("the answer of another plugin")
        data = wire.mapping(answer, "data")
        if "error_code" in data:
            raise self._refusal(plugin, data, "error_code", "error")
        return data

    def _refusal(self, realm: str, error: wire.Json, code: str, text: str) -> SfuError:
        said = self._settings.scrub(wire.string(error, text, 1024))
        return errors.janus_error(realm, wire.integer(error, code), said)
