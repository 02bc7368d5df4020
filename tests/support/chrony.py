"""Debian's chrony, as a server and as its client, and the way to ask it. Neither sets a clock (``-x``)."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.units import as_systemd_starts, settings
from support.openssl import openssl
from support.ports import two_free_ports

ROOT = Path(__file__).parents[2] / ".chrony" / "root"
CHRONYC = ROOT / "usr/bin/chronyc"
_DEADLINE = 20.0
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Chronyd:
    """Where it may be asked and controlled, and what it logs."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes]) -> None:
        self.socket = directory / "chronyd.sock"
        self.log = directory / "log"
        self.process = process

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def chronyd(directory: Path, *configuration: str) -> Iterator[Chronyd]:
    assert ROOT.exists(), "run .ci/setup test"
    # chronyd insists on a directory that nobody else may enter.
    directory.mkdir(mode=0o700, exist_ok=True)
    text = ("user root", "cmdport 0", f"pidfile {directory}/pid", f"bindcmdaddress {directory}/chronyd.sock")
    (directory / "conf").write_text("\n".join((*text, *configuration, "")))
    with (directory / "log").open("wb") as log:
        command = (ROOT / "usr/sbin/chronyd", "-x", "-d", "-f", directory / "conf")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    daemon = Chronyd(directory, process)
    try:
        wait_until(daemon.socket.exists, daemon.log)
        yield daemon
    finally:
        process.kill()
        process.wait()


class NtsServer:
    """One whose certificate ``authority`` (PEM) issued; what to write of it to a client."""

    def __init__(self, directory: Path, address: str = "127.0.0.1") -> None:
        self.directory = directory
        self.authority = directory / "ca.pem"
        self._address = address
        self._key_port = two_free_ports()
        self._port = self._key_port + 1
        self.plain = f"server {address} port {self._port} iburst minpoll 0 maxpoll 0"
        self.nts = f"{self.plain} nts ntsport {self._key_port}"
        authority(directory, "ca")
        openssl(directory, "req", *_CURVE, "-keyout", "key", "-out", "csr", "-subj", "/CN=time")
        (directory / "names").write_text(f"subjectAltName=IP:{address}\n")
        issuer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(directory, "x509", "-req", "-in", "csr", *issuer, "-extfile", "names", "-out", "pem")

    @contextmanager
    def running(self) -> Iterator[Chronyd]:
        keys = (f"ntsserverkey {self.directory}/key", f"ntsservercert {self.directory}/pem")
        ports = (f"port {self._port}", f"ntsport {self._key_port}", f"bindaddress {self._address}")
        directory = self.directory / "server"
        with chronyd(directory, "local stratum 1", "allow", "manual", *keys, *ports) as daemon:
            yield daemon


def authority(directory: Path, name: str) -> Path:
    """A root that nobody knows yet; its certificate (PEM)."""
    files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(directory, "req", "-x509", *_CURVE, *files, "-subj", f"/CN={name}", "-days", "2")
    return directory / f"{name}.pem"


def wait_until(holds: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + _DEADLINE
    while not holds():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)


@contextmanager
def asked(path: Path, *command: str | Path) -> Iterator[None]:
    """systemd's own activation runs it for each connection to ``path``, as for a socket with Accept=yes."""
    activate = ("systemd-socket-activate", "--accept", "--inetd", "-l", str(path))
    process = subprocess.Popen([*activate, *command], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(path), Path("/dev/null"))
        yield
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    """proc(5), /proc/net/unix: the fourth is __SO_ACCEPTCON, the last the path."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(line[-1] == str(path) and line[3] == "00010000" for line in lines)


def question(daemon: Chronyd) -> list[str | Path]:
    """What dongled-time@.service runs, for this chronyd."""
    (command,) = settings("dongled-time@.service")["ExecStart"]
    program, *arguments = as_systemd_starts(command)
    assert program == "/usr/bin/chronyc"
    return [CHRONYC, "-h", daemon.socket, *arguments]
