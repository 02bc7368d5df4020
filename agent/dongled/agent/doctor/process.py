"""What the kernel says of a process's confinement. proc(5), cgroups(7)"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Confinement:
    """``dumpable``: it may dump core, and its user may read its memory; None of root's, which does not tell.

    ``swapped`` is what of it lies in swap, kB; ``swaps`` are the places that it may be swapped to.
    """

    uid: int
    groups: tuple[int, ...]
    no_new_privileges: bool
    seccomp_filter: bool
    capabilities: int
    dumpable: bool | None
    swapped: int
    swaps: tuple[str, ...]


def confinement(pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> Confinement:
    """Raises OSError for a process that is gone or hidden, ValueError for one that is described otherwise."""
    of_it = proc / str(pid)
    lines = (of_it / "status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    try:
        uid = int(fields["Uid"][1])
        return Confinement(
            uid=uid,
            groups=(int(fields["Gid"][1]), *map(int, fields["Groups"])),
            no_new_privileges=fields["NoNewPrivs"] == ["1"],
            seccomp_filter=fields["Seccomp"] == ["2"],
            # Those that it has, and those that a program of root's, if it started one, would have.
            capabilities=int(fields["CapEff"][0], 16) | int(fields["CapBnd"][0], 16),
            # Of a process that dumps no core the files are root's (PR_SET_DUMPABLE, prctl(2)).
            dumpable=None if uid == 0 else (of_it / "status").stat().st_uid == uid,
            swapped=int(fields.get("VmSwap", ["0"])[0]),
            swaps=() if _never_swapped(of_it, cgroups) else _swaps(proc),
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"{of_it}/status lacks {error}") from None


def _never_swapped(of_it: Path, cgroups: Path) -> bool:
    """Does a control group above it keep it out of swap (MemorySwapMax=0)?"""
    unified = [line[3:] for line in (of_it / "cgroup").read_text().splitlines() if line.startswith("0::")]
    group = cgroups / unified[0].lstrip("/") if unified else cgroups
    limits = [each / "memory.swap.max" for each in (group, *group.parents) if each.is_relative_to(cgroups)]
    return any(limit.is_file() and limit.read_text().strip() == "0" for limit in limits)


def _swaps(proc: Path) -> tuple[str, ...]:
    """Swap that outlives the machine's power: compressed memory (zram) does not."""
    try:
        lines = (proc / "swaps").read_text().splitlines()[1:]
    except FileNotFoundError:
        return ()
    names = [line.split()[0] for line in lines if line.strip()]
    return tuple(name for name in names if not Path(name).name.startswith("zram"))
