"""Binds a daemon's Unix socket where a dead one left its own, and never where somebody listens."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


def bind_unix(path: Path) -> socket.socket:
    """A bound socket, which nobody else may connect to yet. Raises OSError when the path is taken."""
    if path.exists():
        _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    umask = os.umask(0o177)
    try:
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(umask)
    return bound


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(errno.EEXIST, "something that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # It listens, and more wait for it than it takes (unix(7)).
    raise OSError(errno.EADDRINUSE, "another process listens there")
