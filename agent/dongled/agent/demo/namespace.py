"""A network of one's own: run a command where nobody else hears it and nothing of it stays.

The command gets fresh network, mount and PID namespaces, and as an ordinary user a user namespace in which
it is root. `lo` is up and a veth pair carries `ADDRESS`, from a range kept for documentation (RFC 5737):
neither Janus nor aiortc gathers 127.0.0.1. No other host can be reached. All of it ends with the command,
with Ctrl-C, and with a SIGKILL of whoever started it: the namespace's first process dies with its
supervisor, and the kernel then kills the rest and drops the interfaces.

By hand: ``python -m dongled.agent.demo.namespace COMMAND [ARGUMENT...]``.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dongled.agent.errors import AgentError

ADDRESS = "192.0.2.1"
_INTERFACE, _PEER = "dongled0", "dongled1"

# <linux/sched.h>, <sys/mount.h>, <linux/prctl.h>, <asm-generic/siginfo.h>
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 0x80

_PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_libc = ctypes.CDLL(None, use_errno=True)


def inside() -> bool:
    """Whether this process already runs in such a namespace."""
    return any(name == _INTERFACE for _, name in socket.if_nameindex())


def enter(argv: Sequence[str]) -> NoReturn:
    """Become the supervisor of ``argv``, run in a fresh namespace; the process ends with argv's status.

    A new interpreter does it, because a user namespace cannot be entered by a process with threads.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", __name__, *argv])


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _unshare() -> None:
    """Leave the host's namespaces. Root keeps its own user namespace, where every file's owner has a name."""
    flags = _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _libc.unshare(flags) == 0:
        return
    if _libc.unshare(flags | _CLONE_NEWUSER) != 0:
        raise AgentError(
            "namespace-refused",
            f"the system allows no namespaces: {os.strerror(ctypes.get_errno())}",
            "allow unprivileged user namespaces (sysctl user.max_user_namespaces), or run it as root",
        )
    # user_namespaces(7): setgroups must be denied before an ordinary user may write gid_map.
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _mount_proc() -> None:
    """Show this PID namespace's processes in /proc, here and nowhere else."""
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount /proc")


def _configure_network() -> None:
    # An ordinary user's PATH may lack the sbin folders.
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if ip is None:
        raise AgentError("namespace-no-ip", "the `ip` command is missing", "install the package iproute2")
    for command in (
        f"link add name {_INTERFACE} type veth peer name {_PEER}",
        f"address add {ADDRESS}/24 dev {_INTERFACE}",
        "link set lo up",
        f"link set {_PEER} up",
        f"link set {_INTERFACE} up",
    ):
        subprocess.run([ip, *command.split()], check=True)


def _supervise(pid: int) -> int:
    """Wait for ``pid``, pass signals on to it, reap every orphan; its exit status as a shell has it."""
    while True:
        info = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            # A terminal signals the whole foreground group: then the command has it already.
            if info.si_code != _SI_KERNEL:
                os.kill(pid, info.si_signo)
            continue
        while True:
            done, status = os.waitpid(-1, os.WNOHANG)
            if done == pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if done == 0:
                break


def _first_process(supervisor: int, argv: Sequence[str]) -> int:
    """Process 1 of the namespace. ``supervisor`` is a pipe that closes when the supervisor ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if select.select([supervisor], [], [], 0)[0]:
        return 1
    _mount_proc()
    _configure_network()
    return _supervise(os.posix_spawnp(argv[0], list(argv), os.environ, setsigmask=()))


def _run(argv: Sequence[str]) -> int:
    _unshare()
    ours, theirs = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    pid = os.fork()
    if pid == 0:
        os.close(theirs)
        os._exit(_guard(lambda: _first_process(ours, argv)))
    return _supervise(pid)


def _guard(step: Callable[[], int]) -> int:
    """Run ``step``; say in one line what failed and what to do, with the status of a system error."""
    try:
        return step()
    except AgentError as error:
        sys.stderr.write(f"dongled: {error}\n  {error.hint}\n")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"dongled: no private network: {error}\n")
    return os.EX_OSERR


if __name__ == "__main__":
    sys.exit(_guard(lambda: _run(sys.argv[1:])))
