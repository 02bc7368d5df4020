"""Ports for what is started by a test."""

from __future__ import annotations

import socket


def two_free_ports() -> int:
    """The first of two neighbouring ports that nobody uses."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("", port + 1))
            except OSError:
                continue
            return port
