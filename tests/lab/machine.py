"""A whole device in QEMU, and a hand in it: boot it, run commands as its root, cut its power.

Made by .ci/lab. Always QEMU's own translation (TCG): /dev/kvm opens on some hosts and then hangs a stock
guest. So everything takes about ten times as long as on the host, and no time here says how fast anything is.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# A boot on a quiet machine takes 15 s.
BOOT_SECONDS = 180.0
PATIENCE = 60.0


@dataclass(frozen=True)
class Done:
    """``status`` is the exit status; ``output`` has both its streams."""

    command: str
    status: int | None
    output: str


class Lines:
    """A Unix socket of QEMU's that speaks lines of JSON."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                # QEMU makes it as it starts, and tells nobody.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, seconds: float) -> dict[str, Any]:
        """Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._socket.recv(1 << 20)
            if not part:
                raise ConnectionError("QEMU ended")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        self._socket.close()


class Machine:
    """``folder`` gets its disk, its sockets, what its console says, and ``share``, which it has at /mnt.

    Its network is QEMU's, which reaches what the process reaches that starts it.
    """

    def __init__(self, folder: Path, suite: str = "bookworm") -> None:
        made = ROOT / ".lab" / suite
        assert (made / "stamp").exists(), f"run .ci/lab {suite}"
        self.suite = suite
        self.folder = folder
        self.share = folder / "share"
        self.share.mkdir(parents=True)
        self._made = made
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: Lines | None = None
        self._monitor: Lines | None = None
        # Sparse, as it is.
        subprocess.run(["cp", "--sparse=always", made / "root.img", folder / "root.img"], check=True)

    @property
    def console(self) -> Path:
        return self.folder / "console"

    @property
    def card(self) -> Path:
        """The socket of its card reader (see ``reader``)."""
        return self.folder / "card.sock"

    def start(self, clock: str = "utc") -> None:
        """Power on. ``clock`` is what its clock says (-rtc base=)."""
        for name in ("agent.sock", "monitor.sock", "card.sock"):
            (self.folder / name).unlink(missing_ok=True)
        qemu = shutil.which("qemu-system-x86_64")
        assert qemu is not None, "qemu-system-x86 is missing: .ci/setup lab installs it"
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                [qemu, *self._arguments(clock)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._monitor = Lines(self.folder / "monitor.sock", PATIENCE)
        self._monitor.hear(PATIENCE)
        self.order("qmp_capabilities")
        self._agent = Lines(self.folder / "agent.sock", PATIENCE)

    def await_boot(self) -> None:
        """Until the hand in it says that it is there, and commands can be run."""
        assert self._agent is not None
        deadline = time.monotonic() + BOOT_SECONDS
        while self._agent.hear(max(0.001, deadline - time.monotonic()))["id"] != "hello":
            pass
        self.run("mountpoint -q /mnt || mount -t 9p -o trans=virtio,version=9p2000.L share /mnt")

    def try_run(self, command: str, timeout: float = PATIENCE) -> Done:
        """What a shell as root makes of it. Raises TimeoutError if the device does not answer at all."""
        assert self._agent is not None, "it is not running"
        self._number += 1
        self._agent.send({"id": self._number, "command": command, "timeout": timeout})
        while (answer := self._agent.hear(timeout + PATIENCE))["id"] != self._number:
            pass
        return Done(command, answer["status"], answer["output"])

    def run(self, command: str, timeout: float = PATIENCE) -> str:
        """The output of what has to succeed."""
        done = self.try_run(command, timeout)
        assert done.status == 0, f"{command}: {done.status}\n{done.output}\n{self.journal()}"
        return done.output

    def until(self, command: str, seconds: float, fits: Callable[[str], object] = bool) -> str:
        """The output of a command, as soon as it succeeds and ``fits``."""
        deadline = time.monotonic() + seconds
        while True:
            done = self.try_run(command)
            if done.status == 0 and fits(done.output):
                return done.output
            assert time.monotonic() < deadline, (
                f"not within {seconds:.0f} s: {command}: {done.status}\n{done.output}\n{self.journal()}"
            )
            time.sleep(0.3)

    def journal(self) -> str:
        done = self.try_run("journalctl --no-pager -o short-precise -n 120; systemctl --no-pager --failed")
        return f"-- the journal of the device\n{done.output}"

    def order(self, command: str, **arguments: Any) -> Any:
        """A command of QEMU's monitor, and its answer (QMP)."""
        assert self._monitor is not None
        self._monitor.send({"execute": command, "arguments": arguments})
        while True:
            answer = self._monitor.hear(PATIENCE)
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]

    def network(self, up: bool) -> None:
        """Put its cable in, or pull it."""
        self.order("set_link", name="net0", up=up)

    def reboot(self) -> None:
        """In order, and until it is there again."""
        assert self._agent is not None
        self._agent.send({"id": 0, "command": "systemctl reboot", "timeout": 5})
        self.await_boot()

    def cut_power(self) -> None:
        """At once, with what it has not written yet lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        for link in (self._agent, self._monitor):
            if link is not None:
                with suppress(OSError):
                    link.close()
        self._agent = self._monitor = None

    def _arguments(self, clock: str) -> list[str]:
        return [
            "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768",
            "-nodefaults", "-display", "none", "-rtc", f"base={clock}",
            "-kernel", str(self._made / "vmlinuz"), "-initrd", str(self._made / "initrd"),
            "-append", "console=ttyS0 panic=-1 quiet root=/dev/vda systemd.show_status=0",
            "-drive", "file=root.img,format=raw,if=virtio,cache=unsafe",
            "-serial", "file:console",
            "-device", "virtio-rng-pci",
            "-netdev", "user,id=net0,ipv6=off", "-device", "virtio-net-pci,netdev=net0",
            "-device", "virtio-serial",
            "-chardev", "socket,id=agent,server=on,wait=off,path=agent.sock",
            "-device", "virtserialport,chardev=agent,name=lab",
            "-chardev", "socket,id=monitor,server=on,wait=off,path=monitor.sock",
            "-mon", "chardev=monitor,mode=control",
            "-device", "qemu-xhci",
            "-chardev", "socket,id=card,server=on,wait=off,path=card.sock",
            "-device", "usb-ccid,id=ccid", "-device", "ccid-card-passthru,chardev=card",
            "-virtfs", "local,path=share,mount_tag=share,security_model=none",
        ]  # fmt: skip
