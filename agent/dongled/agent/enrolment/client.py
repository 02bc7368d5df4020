"""Asks an EST server, which is believed for its certificate and for nothing else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from cryptography import x509

from dongled.agent.enrolment.est import (
    ANSWER_TYPE,
    MAX_ANSWER,
    MAX_AUTHORITIES,
    REQUEST_TYPE,
    EnrolmentError,
    Pending,
    address,
    certificates_in,
    request_body,
    seconds_of,
)

TIMEOUT = 30.0  # seconds for one answer; issuing may take a moment


@dataclass(frozen=True, slots=True)
class EstServer:
    """``authorities`` (PEM) are the only ones believed for the server's name.

    ``password`` is asked each time, so that a new code counts at once; ``client`` is a TLS client's
    certificate and its key (PEM files).
    """

    url: str
    authorities: Path
    username: str = ""
    password: Callable[[], str] | None = None
    client: tuple[Path, Path] | None = None


class EstClient:
    """Follows no redirect and asks no proxy. Each method raises EnrolmentError."""

    def __init__(self, server: EstServer, timeout: float = TIMEOUT) -> None:
        self._server = server
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            verify=_context(server), trust_env=False, follow_redirects=False, timeout=timeout
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def authorities(self, label: str | None) -> list[x509.Certificate]:
        """RFC 7030, 4.1: what the platform calls its authorities. None of them is trusted for that."""
        return await self._ask("GET", address(self._server.url, label, "cacerts"), b"", MAX_AUTHORITIES)

    async def enroll(
        self, request: x509.CertificateSigningRequest, label: str | None, *, again: bool
    ) -> x509.Certificate:
        """RFC 7030, 4.2: a certificate for the request, not checked yet. Raises Pending too."""
        operation = "simplereenroll" if again else "simpleenroll"
        url = address(self._server.url, label, operation)
        # RFC 7030, 4.2.3: the issued certificate and no other.
        return (await self._ask("POST", url, request_body(request), 1))[0]

    async def _ask(self, method: str, url: str, body: bytes, most: int) -> list[x509.Certificate]:
        password = self._server.password
        # RFC 7030, 3.2.3: inside of TLS, once the server's certificate has been checked.
        auth = httpx.BasicAuth(self._server.username, password()) if password and body else None
        # Identity: nobody unpacks here what was packed to burst.
        headers = {"Accept": ANSWER_TYPE, "Accept-Encoding": "identity"}
        if body:
            headers |= {"Content-Type": REQUEST_TYPE, "Content-Transfer-Encoding": "base64"}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(method, url, content=body, headers=headers, auth=auth) as response,
            ):
                _require_ok(response)
                data = bytearray()
                async for part in response.aiter_raw():
                    data += part
                    if len(data) > MAX_ANSWER:
                        break
                return certificates_in(response.headers.get("Content-Type", ""), bytes(data), most)
        except TimeoutError:
            raise _unreachable(url, f"no answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if (untrusted := _verification_error(error)) is not None:
                raise EnrolmentError(
                    "est-server-untrusted",
                    f"{url}: {untrusted.verify_message}",
                    "enrolment.ca-file must hold the authority of the server's own certificate",
                ) from None
            raise _unreachable(url, str(error) or type(error).__name__) from None


# Why, and what to do. What the server writes beside it is not shown: it may repeat what it was sent.
_STATUS = {
    401: ("est-credentials", "the platform does not take these credentials", "a one-time code serves once"),
    403: ("est-forbidden", "the platform forbids it", "does it know this terminal, and its TLS certificate?"),
    404: ("est-no-service", "there is no EST here", "check enrolment.url and the labels"),
}


def _require_ok(response: httpx.Response) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status == httpx.codes.ACCEPTED:
        raise Pending(seconds_of(response.headers.get("Retry-After"), datetime.now(UTC)))
    if status in _STATUS:
        raise EnrolmentError(*_STATUS[status])
    reason, what = ("est-failing", "failed") if status >= 500 else ("est-refused", "refused")
    raise EnrolmentError(reason, f"the platform {what}: HTTP status {status}", "its own log says why")


def _context(server: EstServer) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(server.authorities))
        if server.client is not None:
            certificate, key = server.client
            # Nobody is asked for a passphrase.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise EnrolmentError(
            "est-files", f"the TLS certificates or the key cannot be used: {error}", "give them as PEM"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _verification_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _unreachable(url: str, why: str) -> EnrolmentError:
    return EnrolmentError(
        "est-unreachable", f"{url}: {why[:100]}", "the platform must be reachable from here"
    )
