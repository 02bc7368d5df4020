"""The worker's life: it hardens itself, loads its module and answers one request after the other."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from dongled.tokens.errors import TokenError
from dongled.tokens.wire import HEADER_BYTES, WireError, body_length, frame, parse

# prctl(2), linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

EXIT_PROTOCOL = 70


def main(arguments: Sequence[str]) -> int:
    """Serve until the broker closes its end. Returns the exit code."""
    descriptor, module, parent = int(arguments[0]), arguments[1], int(arguments[2])
    harden(parent)
    with socket.socket(fileno=descriptor) as link:
        try:
            return serve(link, module)
        except (WireError, OSError):
            return EXIT_PROTOCOL


def harden(parent: int) -> None:
    """No core dump with a PIN in it, no life after the daemon's, no Ctrl-C meant for the daemon."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # The socket's end says that the daemon is gone, but a module that hangs would never read it.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_PROTOCOL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def serve(link: socket.socket, module: str) -> int:
    """Load the module, then answer requests in order."""
    # Imported late, so that nothing of a module's bindings runs before the process is hardened.
    from dongled.tokens.worker.operations import Module, describe_fault

    def attempt(request: int, work: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"id": request, "ok": work(**arguments)}
        except TokenError as error:
            return {"id": request, "refused": [error.reason, str(error), error.hint]}
        # Whatever the bindings raise is the broker's to judge; the worker goes on.
        except Exception as error:  # noqa: BLE001 - reported to the broker by name, not swallowed
            return {"id": request, "fault": describe_fault(error)}

    loaded: list[Module] = []
    link.sendall(frame(attempt(0, lambda: loaded.append(Module(module)), {})))
    while loaded:
        header = _receive(link, HEADER_BYTES)
        if header is None:
            return 0
        body = _receive(link, body_length(header))
        if body is None:
            return EXIT_PROTOCOL
        message = parse(body)
        name, arguments = message.get("op"), message.get("args")
        if set(message) != {"id", "op", "args"} or not isinstance(arguments, dict):
            raise WireError("not a request")
        if not isinstance(name, str) or name not in Module.OPERATIONS:
            raise WireError("unknown operation")
        link.sendall(frame(attempt(message["id"], getattr(loaded[0], name), arguments)))
    return 0


def _receive(link: socket.socket, count: int) -> bytes | None:
    """Exactly so many bytes, or None at the end."""
    received = bytearray()
    while len(received) < count:
        part = link.recv(count - len(received))
        if not part:
            return None
        received += part
    return bytes(received)
