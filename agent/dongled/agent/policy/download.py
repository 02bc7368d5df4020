"""A few bytes over HTTP, from a server that may be slow, dead or hostile."""

from __future__ import annotations

import asyncio
import re
import ssl
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from dongled.agent.policy.api import PolicyRefused

MAX_URL = 512  # characters
TIMEOUT = 10.0  # seconds, for all of it
# RFC 9110, 8.8.3, in ASCII: another could not be sent back, and nothing be fetched here any more.
_TAG = re.compile(r'(W/)?"[!#-~]{0,128}"')


class Unchanged(Exception):
    """The server says that what it last gave still stands (RFC 9110, 15.4.5)."""


class Downloader:
    """Fetches over http and https alone; follows no redirect and asks no proxy.

    https is verified against the system's roots. Every failure is PolicyRefused ``revocation-unreachable``.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(), trust_env=False, follow_redirects=False, timeout=timeout
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def post(self, url: str, body: bytes, content_type: str, limit: int) -> bytes:
        """At most ``limit`` bytes in answer to ``body``."""
        try:
            data, _ = await self._ask("POST", url, {"Content-Type": content_type}, body, limit)
        except Unchanged:
            # Nobody asked whether something had changed (RFC 9110, 15.4.5).
            raise _unreachable(url, "HTTP status 304") from None
        return data

    async def get(self, url: str, tag: str | None, limit: int) -> tuple[bytes, str | None]:
        """At most ``limit`` bytes and their entity tag. Raises Unchanged where ``tag`` is still theirs."""
        data, tag = await self._ask("GET", url, {"If-None-Match": tag} if tag else {}, b"", limit)
        return data, tag if tag is not None and _TAG.fullmatch(tag) else None

    async def _ask(
        self, method: str, url: str, headers: dict[str, str], body: bytes, limit: int
    ) -> tuple[bytes, str | None]:
        _require_http(url)
        # Identity: nobody unpacks here what was packed to burst.
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(method, url, headers=headers, content=body) as response,
            ):
                if response.status_code == httpx.codes.NOT_MODIFIED:
                    raise Unchanged
                if response.status_code != httpx.codes.OK:
                    raise _unreachable(url, f"HTTP status {response.status_code}")
                data = bytearray()
                async for part in response.aiter_raw():
                    data += part
                    if len(data) > limit:
                        raise _unreachable(url, f"more than {limit} bytes")
                return bytes(data), response.headers.get("ETag")
        except TimeoutError as error:
            raise _unreachable(url, f"no answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            raise _unreachable(url, str(error) or type(error).__name__) from error


def _require_http(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _unreachable(url, "not a URL") from None
    if len(url) > MAX_URL or not url.isprintable() or parts.scheme not in ("http", "https"):
        raise _unreachable(url, "not an http:// or https:// address")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise _unreachable(url, "no host, or a user in it")


def _unreachable(url: str, why: str) -> PolicyRefused:
    return PolicyRefused(
        "revocation-unreachable",
        f"{url[:100]!r}: {why[:100]}",
        "the platform must be reachable from here; a grace helps over short outages",
    )
