"""One question to the customer's program, one answer: JSON over HTTPS, or HTTP over a Unix socket.

docs/authorization.md has both. An answer is believed only after this, in this order:

1. the server      another program than the operator's: its TLS certificate, or the socket's own directory
2. the time        a program that hangs
3. status, type    an error page, a login form or a redirect passing for an answer
4. the size        a program making us read for ever
5. the shape       reading more or less into it than it says
6. the question    another's answer, or one from before: it repeats this question's id
7. the streams     an answer that allows what was not asked
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyUndecided
from dongled.agent.policy.authorizer.api import Question
from dongled.config.api import ConfigError

VERSION = "dongled-authorizer/1"
MAX_ANSWER = 4096  # bytes
MAX_REASON = 200  # characters
MAX_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Address:
    """Where the program is. Over HTTPS, ``authorities`` (PEM) are the only ones believed for its name.

    ``socket``: it listens there, and ``url`` is what it is asked for. ``bearer`` is read each time, so that a
    new one counts at once; ``client`` is a TLS client's certificate and its key (PEM files).
    """

    url: str
    authorities: Path | None = None
    socket: Path | None = None
    client: tuple[Path, Path] | None = None
    bearer: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the program answered: ``streams`` it allows, none where it refuses; ``reason`` is for operators.

    ``seconds``: how long it wants it to count at most.
    """

    streams: frozenset[str]
    reason: str
    seconds: float


class Exchange:
    """Asks; follows no redirect and asks no proxy. Raises AgentError for files that cannot be used."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._context = _context(address)
        self._opened: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Until it is asked again."""
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    def _client(self) -> httpx.AsyncClient:
        # 1.
        if self._opened is None:
            socket = self._address.socket
            self._opened = httpx.AsyncClient(
                verify=self._context,
                trust_env=False,
                follow_redirects=False,
                timeout=self._timeout,
                transport=None if socket is None else httpx.AsyncHTTPTransport(uds=str(socket)),
            )
        return self._opened

    async def ask(self, question: Question) -> Verdict:
        """Raises PolicyUndecided, with a reason for each step."""
        number = secrets.token_hex(16)
        data = await self._post(json.dumps(_body(question, number)).encode())
        return _verdict(data, number, question)

    async def _post(self, body: bytes) -> bytes:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        try:
            if self._address.bearer is not None:
                headers["Authorization"] = f"Bearer {_token(self._address.bearer())}"
            # 2.
            async with (
                asyncio.timeout(self._timeout),
                self._client().stream("POST", self._address.url, content=body, headers=headers) as response,
            ):
                # 3.
                if response.status_code != httpx.codes.OK:
                    raise _undecided("status", f"it answered with HTTP status {response.status_code}")
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if kind != "application/json":
                    raise _undecided("garbage", "its answer is not application/json")
                data = bytearray()
                async for part in response.aiter_raw():
                    data += part
                    # 4.
                    if len(data) > MAX_ANSWER:
                        raise _undecided("garbage", f"its answer has more than {MAX_ANSWER} bytes")
                return bytes(data)
        except TimeoutError:
            raise _undecided("timeout", f"no answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise _undecided("unreachable", (str(error) or type(error).__name__)[:100]) from None
        except ConfigError as error:
            raise _undecided("unreachable", f"its bearer token cannot be read: {error}"[:200]) from None


# RFC 9110, 5.5
def _token(bearer: str) -> str:
    """What is wrong with a header the HTTP library tells, and the whole header with it: so not to it."""
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", bearer):
        raise _undecided("bearer", "its bearer token is no line of printable ASCII")
    return bearer


def _context(address: Address) -> ssl.SSLContext | bool:
    if address.socket is not None:
        return False
    try:
        context = ssl.create_default_context(cafile=str(address.authorities))
        if address.client is not None:
            # Nobody is asked for a passphrase.
            context.load_cert_chain(*address.client, password="")
    except (OSError, ValueError) as error:
        raise AgentError(
            "authorizer-files", f"the TLS certificates or the key cannot be used: {error}", "give them as PEM"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _body(question: Question, number: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "id": number,
        "meeting": question.meeting,
        "terminal": question.terminal,
        "subject": question.subject,
        "certificate": base64.b64encode(question.certificate).decode(),
        "sha256": question.leaf,
        "roles": list(question.roles),
        "assurance": question.assurance,
        "streams": list(question.streams),
        "evidence": list(question.evidence),
    }


def _verdict(data: bytes, number: str, question: Question) -> Verdict:
    # 5.
    try:
        answer = json.loads(data, object_pairs_hook=_strict)
    except (ValueError, RecursionError):
        raise _undecided("garbage", "its answer is not JSON") from None
    if not isinstance(answer, dict) or not {"id", "allow"} <= set(answer) <= _KEYS:
        raise _undecided("garbage", "its answer lacks a key, or has one that nobody knows")
    allow, reason, seconds = answer["allow"], answer.get("reason", ""), answer.get("seconds", MAX_SECONDS)
    streams = answer.get("streams", list(question.streams))
    if (
        not isinstance(allow, bool)
        or not isinstance(reason, str)
        or not isinstance(streams, list)
        or not all(isinstance(stream, str) for stream in streams)
        or type(seconds) is not int
    ):
        raise _undecided("garbage", "a value in its answer is of the wrong type")
    if len(reason) > MAX_REASON or not reason.isprintable() or not 1 <= seconds <= MAX_SECONDS:
        raise _undecided("garbage", "a value in its answer is out of bounds")
    # 6.
    if answer["id"] != number:
        raise _undecided("other-answer", "it answered another question")
    # 7.
    if not set(streams) <= set(question.streams):
        raise _undecided("garbage", "it allows streams that nobody asked for")
    return Verdict(frozenset(streams) if allow else frozenset(), reason, seconds)


_KEYS = {"id", "allow", "streams", "reason", "seconds"}


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _undecided(reason: str, text: str) -> PolicyUndecided:
    return PolicyUndecided(
        f"authorizer-{reason}", f"the authorizer: {text}", "nobody is granted anything new until it answers"
    )
