"""An authorizer for dongled: a small program that says who may watch (docs/authorization.md).

    python authorizer.py --socket /run/authorizer/authorizer.sock --allow allowed.json
    python authorizer.py --listen 127.0.0.1:8443 --certificate server.pem --key server.key \\
        --allow allowed.json

``allowed.json`` maps terminals to the streams that they may watch, and is read again for every question:

    {"urn:uuid:00000000-0000-4000-8000-000000000000": ["camera"]}

Python's standard library alone. ``--client-ca`` wants a client certificate, ``--bearer-file`` a bearer token.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

MOST = 65_536  # bytes of a question


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def decide(question: dict[str, Any], allowed: dict[str, list[str]]) -> dict[str, Any]:
    """The answer: this is where your own rules go."""
    streams = [each for each in question["streams"] if each in allowed.get(question["terminal"], [])]
    if question["version"] != "dongled-authorizer/1":
        return {"id": question["id"], "allow": False, "reason": "of another version"}
    if Handler.hardware and question["assurance"] != "hardware":
        return {"id": question["id"], "allow": False, "reason": "its keys are not in hardware"}
    if not streams:
        return {"id": question["id"], "allow": False, "reason": "not in the list"}
    return {"id": question["id"], "allow": True, "streams": streams, "reason": "in the list", "seconds": 300}


class Handler(BaseHTTPRequestHandler):
    """One question, one answer."""

    protocol_version = "HTTP/1.1"
    timeout = 10
    allow: Path
    bearer: Path | None = None
    hardware = False

    def do_POST(self) -> None:
        if self.bearer is not None:
            expected = f"Bearer {self.bearer.read_text().strip()}"
            if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected.encode()):
                return self.send_error(401)
        size = int(self.headers.get("Content-Length", "0"))
        if not 0 < size <= MOST:
            return self.send_error(413)
        try:
            question = json.loads(self.rfile.read(size))
            answer = decide(question, json.loads(self.allow.read_text()))
        except (KeyError, TypeError, ValueError, OSError) as error:
            # dongled grants nothing on an error.
            return self.send_error(500, explain=str(error))
        say(f"{question['subject']} asks for {question['streams']}: {answer}")
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def address_string(self) -> str:
        """A Unix socket's client has no address."""
        return str(self.client_address[0]) if self.client_address else "socket"


class UnixServer(ThreadingMixIn, UnixStreamServer):
    """HTTP on a Unix socket that only this user, and who it lets in by the directory, may open."""

    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--allow", type=Path, required=True)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--listen", metavar="HOST:PORT")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--client-ca", type=Path)
    parser.add_argument("--bearer-file", type=Path)
    parser.add_argument("--hardware", action="store_true", help="let no keys in software in")
    chosen = parser.parse_args()
    Handler.allow, Handler.bearer, Handler.hardware = chosen.allow, chosen.bearer_file, chosen.hardware
    if chosen.socket is not None:
        chosen.socket.unlink(missing_ok=True)
        os.umask(0o177)
        server: UnixServer | HTTPServer = UnixServer(str(chosen.socket), Handler)
        say(f"ready on {chosen.socket}")
    else:
        host, _, port = chosen.listen.rpartition(":")
        server = ThreadingHTTPServer((host, int(port)), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chosen.certificate, chosen.key)
        if chosen.client_ca is not None:
            context.load_verify_locations(chosen.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        say(f"ready on https://{host}:{server.server_port}/")
    server.serve_forever()


if __name__ == "__main__":
    main()
