"""A software TPM of the test's own, and what stands between it and its users.

A machine's programs reach its TPM by the kernel's resource manager (/dev/tpmrm0), which forgets what a
program had loaded once that closes the device. swtpm has none, and room for three objects: a worker that is
killed would leave its own there for good. So ``Tpm`` stands in front of it, and flushes after each client. It
speaks the protocol of Microsoft's simulator, in which a client keeps its connection: tss2-tcti-mssim(7).
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.hold import Hold
from support.ports import two_free_ports

_DEADLINE = 10.0

# TPM 2.0 library, part 2: 6.5.2 (command codes), 6.9 (tags).
_NO_SESSIONS = 0x8001
_FLUSH_CONTEXT = 0x165
# CreatePrimary, Load, LoadExternal, ContextLoad, StartAuthSession, HashSequenceStart, HMAC_Start,
# CreateLoaded
_LOADING = frozenset({0x131, 0x157, 0x167, 0x161, 0x176, 0x186, 0x15B, 0x191})
_HEADER = struct.Struct(">HII")

# https://github.com/microsoft/ms-tpm-20-ref, TpmTcpProtocol.h: TPM_SEND_COMMAND, locality, size
_SEND = struct.Struct(">IBI")
_SEND_COMMAND = 8
_NUMBER = struct.Struct(">I")


class Tpm:
    """``stop`` cuts its power; ``start`` again gives it back, with what it keeps."""

    def __init__(self, directory: Path) -> None:
        self._state = directory / "tpm"
        self._state.mkdir()
        self._socket = directory / "tpm.sock"
        self._log = directory / "tpm.log"
        self.port = two_free_ports()
        self.commands: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._turn = threading.Lock()
        self._holds: dict[int, Hold] = {}
        self._clients: list[socket.socket] = []
        self._listeners = [
            self._listen(self.port, self._serve),
            self._listen(self.port + 1, self._serve_platform),
        ]

    @property
    def tcti(self) -> str:
        """How TPM software finds it."""
        return f"mssim:host=127.0.0.1,port={self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}",
                    "--server", f"type=unixio,path={self._socket}",
                    "--flags", "not-need-init,startup-clear",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + _DEADLINE
        while self._link is None:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(str(self._socket))
            except OSError:
                link.close()
                time.sleep(0.01)
            else:
                self._link = link

    def stop(self) -> None:
        """Whoever talks to it loses the connection."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for hold in self._holds.values():
            hold.release()
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        with self._turn:
            if self._link is not None:
                self._link.close()
                self._link = None
        self._socket.unlink(missing_ok=True)

    @contextmanager
    def holding(self, code: int) -> Iterator[Hold]:
        """Leave commands of this code unanswered until released, or until the power is cut."""
        hold = self._holds[code] = Hold()
        try:
            yield hold
        finally:
            del self._holds[code]
            hold.release()

    def close(self) -> None:
        self.stop()
        for listener in self._listeners:
            # Wakes the thread that accepts; closing alone would not.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _listen(self, port: int, serve: Callable[[socket.socket], None]) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=16)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._clients.append(client)
                    threading.Thread(target=attend, args=(client,), name="tpm client", daemon=True).start()

        def attend(client: socket.socket) -> None:
            with client, suppress(OSError):
                serve(client)
            self._clients.remove(client)

        threading.Thread(target=accept, name="tpm", daemon=True).start()
        return listener

    def _serve_platform(self, client: socket.socket) -> None:
        """Power and the like: all is well."""
        while _exactly(client, _NUMBER.size) is not None:
            client.sendall(_NUMBER.pack(0))

    def _serve(self, client: socket.socket) -> None:
        loaded = set()
        try:
            while (command := _sent(client)) is not None:
                code = _HEADER.unpack_from(command)[2]
                self.commands.append(code)
                if (hold := self._holds.get(code)) is not None:
                    hold.wait()
                answer = self._exchange(command)
                if code in _LOADING and _HEADER.unpack_from(answer)[2] == 0:
                    loaded.add(answer[_HEADER.size : _HEADER.size + 4])
                client.sendall(_NUMBER.pack(len(answer)) + answer + _NUMBER.pack(0))
        finally:
            for handle in loaded:
                self._exchange(_HEADER.pack(_NO_SESSIONS, _HEADER.size + 4, _FLUSH_CONTEXT) + handle)

    def _exchange(self, command: bytes) -> bytes:
        """Raises OSError when there is no TPM."""
        with self._turn:
            if self._link is None:
                raise ConnectionResetError
            self._link.sendall(command)
            answer = _message(self._link)
        if answer is None:
            raise ConnectionResetError
        return answer


@contextmanager
def running(directory: Path) -> Iterator[Tpm]:
    tpm = Tpm(directory)
    tpm.start()
    try:
        yield tpm
    finally:
        tpm.close()


def _sent(client: socket.socket) -> bytes | None:
    """The next command; None at the end."""
    head = _exactly(client, 4)
    if head is None or _NUMBER.unpack(head)[0] != _SEND_COMMAND:
        return None
    rest = _exactly(client, _SEND.size - 4)
    return None if rest is None else _exactly(client, _SEND.unpack(head + rest)[2])


def _message(link: socket.socket) -> bytes | None:
    head = _exactly(link, _HEADER.size)
    if head is None:
        return None
    rest = _exactly(link, _HEADER.unpack(head)[1] - _HEADER.size)
    return None if rest is None else head + rest


def _exactly(link: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        if link.family == socket.AF_INET:
            # A command comes in pieces: its kernel holds the second until the first is acknowledged.
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = link.recv(count - len(data))
        if not part:
            return None
        data += part
    return data
