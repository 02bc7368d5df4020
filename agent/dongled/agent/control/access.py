"""Who may ask the daemon, and who may have it do something."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

# <asm-generic/socket.h>: socket(7) names it, Python does not.
_SO_PEERGROUPS = 59
_GROUPS_SIZE = 1024  # what Python's getsockopt reads at most


class Access(IntEnum):
    NONE = 0
    READ = 1
    ACT = 2


READS = frozenset(
    {
        "org.varlink.service.GetInfo",
        "org.varlink.service.GetInterfaceDescription",
        "io.dongled.Control.Status",
        "io.dongled.Control.Watch",
        "io.dongled.Control.Requests",
    }
)
"""The methods that change nothing and tell no secret. Whatever is not named here acts."""


def needed(method: str) -> Access:
    """What a caller of this method, by its full name, must be allowed."""
    return Access.READ if method in READS else Access.ACT


@dataclass(frozen=True, slots=True)
class Caller:
    """The process at the other end, as it was when it connected; ``groups`` with the supplementary ones."""

    uid: int
    groups: frozenset[int]


def caller_of(connection: socket.socket) -> Caller:
    """By SO_PEERCRED and SO_PEERGROUPS (socket(7)): the kernel's word, not the caller's."""
    size = struct.calcsize("3i")
    _pid, uid, gid = cast(
        tuple[int, int, int],
        struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)),
    )
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
    except OSError:  # of more than 256 supplementary groups none counts
        raw = b""
    return Caller(uid, frozenset([gid, *(number for (number,) in struct.iter_unpack("I", raw))]))


@dataclass(frozen=True, slots=True)
class Rules:
    """The groups, by number, whose members may act, or read. Root and this process's own user may act."""

    operators: int | None = None
    readers: int | None = None

    def access(self, caller: Caller) -> Access:
        if caller.uid in (0, os.geteuid()) or self.operators in caller.groups:
            return Access.ACT
        return Access.READ if self.readers in caller.groups else Access.NONE
