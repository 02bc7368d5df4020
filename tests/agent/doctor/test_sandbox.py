"""Confinement as the kernel tells it: of processes that lack one thing each, and of swap."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dongled.agent.doctor.api import Level
from dongled.agent.doctor.case import TerminalCase
from dongled.agent.doctor.checks import sandbox
from dongled.agent.doctor.process import confinement

NOBODY = 65534
TIGHT = (
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
)
# Says that it is there, dumps no core as the daemon forbids itself to, and waits to be told to go.
WAITS = (
    "import ctypes, sys; ctypes.CDLL(None).prctl(4, int(sys.argv[1])); print(flush=True); sys.stdin.read()"
)


@contextmanager
def process(*confined: str, dumpable: bool = False) -> Iterator[int]:
    command = ["setpriv", *confined, "/usr/bin/python3", "-c", WAITS, str(int(dumpable))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdout.readline()
        yield started.pid
        started.stdin.close()


def with_seccomp(status: str) -> str:
    """No tool here puts a process behind a filter: as the kernel would show one."""
    return status.replace("Seccomp:\t0", "Seccomp:\t2")


def proc_of(pid: int, folder: Path) -> Path:
    """A /proc with this process, behind a filter."""
    (folder / str(pid)).mkdir(parents=True)
    for name in ("status", "cgroup"):
        (folder / str(pid) / name).write_text(with_seccomp(Path(f"/proc/{pid}/{name}").read_text()))
    (folder / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    return folder


def texts(pid: int, proc: Path) -> dict[Level, str]:
    return {finding.level: finding.text for finding in sandbox.judge(confinement(pid, proc))}


def test_a_process_of_a_tight_unit(tmp_path: Path) -> None:
    with process(*TIGHT) as pid:
        found = confinement(pid)
        assert (found.uid, found.no_new_privileges, found.capabilities, found.dumpable) == (
            NOBODY,
            True,
            0,
            False,
        )
        assert not found.seccomp_filter
        assert set(texts(pid, proc_of(pid, tmp_path))) == {Level.OK}


@pytest.mark.parametrize(
    ("left_out", "told"),
    [("--no-new-privs", "NoNewPrivileges"), ("--bounding-set=-all", "CapabilityBoundingSet")],
)
def test_each_thing_that_is_lacking_is_told(left_out: str, told: str, tmp_path: Path) -> None:
    with process(*(each for each in TIGHT if each != left_out)) as pid:
        found = texts(pid, proc_of(pid, tmp_path))
    assert told in found[Level.WARNING]
    assert Level.OK not in found


def test_one_that_dumps_core_is_told() -> None:
    with process(*TIGHT, dumpable=True) as pid:
        assert confinement(pid).dumpable
        assert any("dump core" in finding.text for finding in sandbox.judge(confinement(pid)))


async def test_one_that_was_started_by_hand() -> None:
    with process() as pid:
        (finding,) = (each for each in sandbox.judge(confinement(pid)) if "not confined" in each.text)
    assert (finding.level, "as root" in finding.text) == (Level.WARNING, True)
    assert "install-service" in finding.hint
    assert [each.level for each in await sandbox.CHECK.look(TerminalCase(None))] == [Level.SKIPPED]


@pytest.mark.parametrize(
    ("swaps", "limit", "told"),
    [
        ("/dev/sda2", None, True),
        ("/dev/sda2", "max", True),
        ("/dev/sda2", "0", False),
        ("/dev/zram0", None, False),
    ],
)
def test_memory_that_may_reach_a_disk(swaps: str, limit: str | None, told: bool, tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    with process(*TIGHT) as pid:
        proc_of(pid, proc)
    (proc / str(pid) / "cgroup").write_text("0::/system.slice/dongled.service\n")
    (proc / "swaps").write_text(f"Filename\tType\tSize\tUsed\tPriority\n{swaps}\tpartition\t1\t0\t-2\n")
    (cgroups / "system.slice/dongled.service").mkdir(parents=True)
    if limit is not None:
        (cgroups / "system.slice/memory.swap.max").write_text(f"{limit}\n")
    found = confinement(pid, proc, cgroups)
    assert bool(found.swaps) is told
    assert any("MemorySwapMax" in finding.hint for finding in sandbox.judge(found)) is told
