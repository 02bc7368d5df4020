"""A pcscd of the test's own, with a virtual reader of two slots, on a socket of its own.

It is started like systemd would start it, with its listening socket as descriptor 3 (sd_listen_fds(3)), in
a mount namespace with an empty /run: it meets no other pcscd and leaves nothing. Clients find it by
``PCSCLITE_CSOCK_NAME``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from support.ports import two_free_ports

ROOT = Path(__file__).parents[3] / ".pcsc" / "root"
_PROGRAM = str(ROOT / "usr/sbin/pcscd")
SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"

# ykcs11 and yubico-piv-tool look only at readers whose name holds "Yubico".
READER = "Yubico YubiKey"

_START = 'mount -t tmpfs tmpfs /run && export LISTEN_PID=$$ && exec "$@" -f 3<&0 </dev/null'
_DEADLINE = 10.0


class Pcscd:
    """The daemon's socket and its reader's ports; ``stop`` and ``start`` again keep both."""

    def __init__(self, directory: Path) -> None:
        assert (ROOT / "usr/sbin/pcscd").exists(), "run .ci/setup test"
        self.path = directory / "pcscd.comm"
        # The driver takes one a slot.
        self.port = two_free_ports()
        self._conf = directory / "reader.conf"
        (driver,) = ROOT.glob("usr/lib/pcsc/drivers/serial/libifdvpcd.so")
        self._conf.write_text(
            f'FRIENDLYNAME "{READER}"\nDEVICENAME /dev/null:{self.port:#x}\n'
            f"LIBPATH {driver}\nCHANNELID {self.port:#x}\n"
        )
        self._log = directory / "pcscd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, self._log.open("ab") as log:
            listener.bind(str(self.path))
            listener.listen(64)

            self._process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", _START, "sh", _PROGRAM, "-c", str(self._conf), *_openly()],
                env={**os.environ, "LISTEN_FDS": "1"},
                stdin=listener.fileno(),
                stdout=log,
                stderr=log,
            )
        self._wait_listening()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It hangs: connections stay, and nothing is answered."""
        assert self._process is not None
        # unshare(1) and sh(1) have become pcscd.
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _wait_listening(self) -> None:
        """Until both slots' ports are open. A look at the kernel's list disturbs no slot."""
        assert self._process is not None
        wanted = {self.port, self.port + 1}
        end = time.monotonic() + _DEADLINE
        while not wanted <= _listening():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.01)


@cache
def _openly() -> tuple[str, ...]:
    """Debian 13's asks polkit who may have cards, and there is none in the tests' namespace."""
    usage = subprocess.run([_PROGRAM, "--help"], capture_output=True, text=True, check=False).stdout
    return ("--disable-polkit",) if "--disable-polkit" in usage else ()


@contextmanager
def running(directory: Path) -> Iterator[Pcscd]:
    daemon = Pcscd(directory)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def _listening() -> set[int]:
    """proc(5), /proc/net/tcp: local address in hexadecimal, state 0A is LISTEN."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in _lines(Path("/proc/net") / name)]
    return {int(line[1].rsplit(":", 1)[1], 16) for line in lines if line[3] == "0A"}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:] if path.exists() else []
