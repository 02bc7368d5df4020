"""A certificate platform that speaks EST (RFC 7030) over TLS, well or as badly as a test wants.

It issues with the lab authority's own functions, in threads: a command under test may block.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID

from dongled.agent.certificates.authority import issue_data, issue_identity, load_request, make_root
from dongled.agent.policy.profile import Assurance, Role
from support.authority import build, name, new_key, pem, private_pem, usage

USER = "terminal"


@dataclass
class Asked:
    """One request: its operation (the path below ``/.well-known/est/``), its headers and its body."""

    operation: str
    headers: dict[str, str]
    body: bytes

    @property
    def csr(self) -> x509.CertificateSigningRequest:
        return x509.load_der_x509_csr(base64.b64decode(self.body))


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def certs_only(*certificates: x509.Certificate) -> Reply:
    """RFC 7030, 4.1.3 and 4.2.3."""
    der = pkcs7.serialize_certificates(list(certificates), Encoding.DER)
    return Reply(
        base64.encodebytes(der), headers={"Content-Type": "application/pkcs7-mime; smime-type=certs-only"}
    )


class Platform:
    """``fault`` may answer in its stead, and ``HANG`` never answers; ``certify`` issues.

    ``password`` serves once where ``one_time``; None: a TLS client's certificate by ``clients`` will do.
    """

    def __init__(self, directory: Path, password: str | None, *, one_time: bool = False) -> None:
        now = datetime.now(UTC)
        self.key = new_key()
        self.root = make_root(self.key, name("platform"), 3650, now - timedelta(days=365))
        self.password = password
        self.one_time = one_time
        self.days = 30
        self.fault: Callable[[Asked], Reply | None] = lambda asked: None
        self.certify: Callable[[Asked], x509.Certificate] = self.issue
        self.authorities = [self.root]
        self.asked: list[Asked] = []
        self.issued: dict[tuple[str, str], x509.Certificate] = {}
        self.ca_file = directory / "est-ca.pem"
        self._tls = _tls(directory, self.ca_file, now)
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def operations(self) -> list[str]:
        return [asked.operation for asked in self.asked]

    def require_client(self, authority: x509.Certificate, directory: Path) -> None:
        """From now on TLS wants a client's certificate that this authority issued."""
        path = directory / "clients.pem"
        path.write_bytes(pem(authority))
        self._tls.load_verify_locations(path)
        self._tls.verify_mode = ssl.CERT_REQUIRED

    def start(self) -> None:
        self._released.clear()
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                platform._serve(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that hangs up, or believes somebody else."""

            def finish_request(self, request: Any, address: Any) -> None:
                with platform._tls.wrap_socket(request, server_side=True) as secured:
                    super().finish_request(secured, address)

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        operation = handler.path.removeprefix("/.well-known/est/")
        asked = Asked(operation, {key.lower(): value for key, value in handler.headers.items()}, body)
        self.asked.append(asked)
        reply = self.fault(asked) or self._answer(asked)
        if reply is HANG:
            self._released.wait()
            return
        with contextlib.suppress(OSError):
            handler.send_response(reply.status)
            for key, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                handler.send_header(key, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(reply.body)
        handler.close_connection = True

    def _answer(self, asked: Asked) -> Reply:
        operation = asked.operation.rpartition("/")[2]
        if operation == "cacerts":
            return certs_only(*self.authorities)
        if operation not in ("simpleenroll", "simplereenroll"):
            return Reply(status=404)
        if self.password is not None and not self._allowed(asked):
            return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="est"'})
        assert asked.headers["content-type"] == "application/pkcs10"
        return certs_only(self.certify(asked))

    def _allowed(self, asked: Asked) -> bool:
        expected = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        good = asked.headers.get("authorization") == f"Basic {expected}"
        # Once for each of the two keys.
        spent = self.one_time and any(
            before.headers.get("authorization") and before.body == asked.body for before in self.asked[:-1]
        )
        return good and not spent and not (self.one_time and asked.operation.endswith("simplereenroll"))

    def issue(self, asked: Asked, **changes: Any) -> x509.Certificate:
        """By the profile; the requested usage tells the kind."""
        request = load_request(base64.b64decode(asked.body))
        how: dict[str, Any] = {
            "assurance": Assurance.SOFTWARE,
            "days": self.days,
            "now": datetime.now(UTC),
            **changes,
        }
        wanted = asked.csr.extensions.get_extension_for_class(x509.KeyUsage).value
        if wanted.key_agreement:
            identity = self.issued[request.terminal, "identity"]
            leaf = issue_data(self.key, self.root, request, identity, **how)
        else:
            roles = [Role.PUBLISHER, Role.VIEWER]
            leaf = issue_identity(self.key, self.root, request, roles=roles, **how)
        self.issued[request.terminal, "data" if wanted.key_agreement else "identity"] = leaf
        return leaf


HANG = Reply(status=-1)


@contextmanager
def platform(directory: Path, password: str | None, **how: Any) -> Iterator[Platform]:
    served = Platform(directory, password, **how)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def _tls(directory: Path, ca_file: Path, now: datetime) -> ssl.SSLContext:
    key = new_key()
    day = timedelta(days=1)
    certificate = build(
        name("est"),
        name("est"),
        key.public_key(),
        key,
        [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (usage("digital_signature", "key_cert_sign"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ],
        now - day,
        now + day,
    )
    ca_file.write_bytes(pem(certificate))
    chain = directory / "est-server.pem"
    chain.write_bytes(private_pem(key) + pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context
