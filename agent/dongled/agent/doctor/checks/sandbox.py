"""Is the daemon that runs confined, by the kernel's own word, and does its memory stay in memory?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dongled.agent.doctor.api import Check, Finding, ok, skipped, warning
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.process import Confinement, confinement

_SERVICE = "run it as the service: a Debian package or `dongled install-service`, docs/operations.md"
_SWAP = (
    "the unit's MemorySwapMax=0 needs the kernel's memory controller (`cgroup_enable=memory` in a Raspberry "
    "Pi's cmdline.txt); or turn swap off"
)
_LOOSE = "`systemctl cat dongled` shows what loosens the unit"


async def look(case: TerminalCase) -> Iterable[Finding]:
    if case.daemon is None:
        return [skipped("no daemon runs, or it could not be asked")]
    try:
        return list(judge(confinement(case.daemon.pid)))
    except OSError as error:
        return [
            skipped(f"process {case.daemon.pid} does not show itself: {error.strerror}", "run this as root")
        ]


def judge(found: Confinement) -> Iterator[Finding]:
    lacking = [
        text
        for holds, text in (
            (found.uid != 0, "it runs as root"),
            (found.no_new_privileges, "it may gain privileges (NoNewPrivileges)"),
            (found.seccomp_filter, "it may call all of the kernel (SystemCallFilter)"),
            (not found.capabilities, "it, or what it starts, may have capabilities (CapabilityBoundingSet)"),
        )
        if not holds
    ]
    if len(lacking) > 2:
        yield warning(f"it is not confined: {'; '.join(lacking)}", _SERVICE)
    else:
        yield from (warning(text, _LOOSE) for text in lacking)
    if found.dumpable:
        yield warning("it may dump core, with its keys", "report this: it forbids itself to")
    if found.swaps or found.swapped:
        where = ", ".join(found.swaps) or "what was swap"
        text = f"its memory, keys too, may be written to {where}; {found.swapped} kB lie there"
        yield warning(text, _SWAP)
    if not lacking:
        yield ok(f"user {found.uid}: no new privileges, no capabilities, system calls are filtered")


CHECK = Check("sandbox", "The daemon is confined", look)
