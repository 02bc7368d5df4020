"""A Janus of one's own, for the demo and the tests: two plugins, one websocket, nothing else.

Found at ``$JANUS`` (the program), in the checkout's ``.janus/root`` or on the PATH; a system's Janus
service is neither started nor asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import connect
from websockets.typing import Subprotocol

from dongled.agent.demo.namespace import ADDRESS
from dongled.agent.errors import AgentError

_PLUGINS = ("videoroom", "textroom")
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0

_Settings = dict[str, str | bool | int]


@dataclass(frozen=True, slots=True)
class Installation:
    """Where a Janus lies: its program, its library folder and the environment that it needs."""

    program: Path
    library: Path
    environment: Mapping[str, str]

    @classmethod
    def find(cls) -> Installation:
        checkout = Path(__file__).resolve().parents[4] / ".janus/root/usr/bin/janus"
        named = os.environ.get("JANUS")
        found = named or (str(checkout) if checkout.exists() else shutil.which("janus"))
        if not found or not os.access(found, os.X_OK):
            where = f"{named} is no program" if named else "Janus is not installed"
            raise AgentError("janus-missing", where, "run .ci/setup demo, or set JANUS to its program")
        program = Path(found).resolve()
        prefix = program.parents[1]
        library = next((p.parent for p in sorted(prefix.glob("lib/**/janus/plugins"))), None)
        if library is None:
            raise AgentError("janus-missing", f"{program} has no plugins below {prefix}/lib", "")
        environment = dict(os.environ)
        if prefix not in (Path("/usr"), Path("/usr/local")):
            folders = [*prefix.glob("lib/*-linux-gnu"), *prefix.parent.glob("lib/*-linux-gnu")]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, folders))
        return cls(program, library, environment)


class JanusServer:
    """A running Janus, as a context manager, blocking or asynchronous.

    Everything it writes goes to ``folder``; its log is ``folder/janus.log``. ``port`` 0 takes a free one.
    Signalling and media use ``address`` alone. With ``api_secret`` or ``token_auth_secret`` clients must
    present that secret, or a token signed with it (HMAC-SHA1, Janus's "stored tokens" are off). ``tls`` is
    a certificate chain and its key, both PEM files: then the websocket is ``wss``. Identifiers of rooms and
    feeds are strings unless ``string_ids`` is false.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = ADDRESS,
        port: int = 0,
        string_ids: bool = True,
        api_secret: str | None = None,
        token_auth_secret: str | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = port or _free_port(address)
        self._string_ids = string_ids
        self._api_secret = api_secret
        self._token_auth_secret = token_auth_secret
        self._tls = tls
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where its websocket listens."""
        return f"{'ws' if self._tls is None else 'wss'}://{self.address}:{self.port}"

    @property
    def log(self) -> Path:
        """The file that takes what it prints."""
        return self.folder / "janus.log"

    @property
    def pid(self) -> int:
        """Its process; an error unless it runs."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        """Start it; return once its websocket answers."""
        installation = Installation.find()
        self._configure(installation)
        self._process = subprocess.Popen(
            [installation.program, "--configs-folder", self.folder, "--config", self.folder / "janus.jcfg"],
            env=installation.environment,
            # Should it crash, its core belongs with its log.
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        listening: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._drain = threading.Thread(target=self._keep_log, args=(listening,), daemon=True)
        self._drain.start()
        try:
            if not listening.get(timeout=_START_SECONDS):
                raise AgentError("janus-start", "Janus did not start", f"{self.log} says why")
            self.info()
        except queue.Empty:
            self.stop()
            raise AgentError("janus-start", "Janus hangs in its start", f"see {self.log}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def info(self) -> dict[str, Any]:
        """What Janus says of itself and of its plugins."""
        trust = None if self._tls is None else ssl.create_default_context(cafile=self._tls[0])
        with connect(self.url, subprotocols=[Subprotocol("janus-protocol")], proxy=None, ssl=trust) as socket:
            socket.send(json.dumps({"janus": "info", "transaction": secrets.token_hex(8)}))
            answer = json.loads(socket.recv(_START_SECONDS))
        if answer.get("janus") != "server_info":
            raise AgentError("janus-start", f"Janus does not introduce itself: {answer}")
        return dict(answer)

    def stop(self) -> None:
        """End it, and wait until it ended. Stopping twice is no error."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._drain is not None:
            self._drain.join()
        self._process = None

    def _keep_log(self, listening: queue.SimpleQueue[bool]) -> None:
        """Copy its output to the log until it ends; say True when it listens, and False when it ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        with self.log.open("w", encoding="utf-8") as log, self._process.stdout as output:
            for line in output:
                log.write(line)
                log.flush()
                if "WebSockets thread started" in line:
                    listening.put(True)
        listening.put(False)

    def _configure(self, installation: Installation) -> None:
        """Write a configuration in which only our plugins and one websocket exist."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for kind, names in (("plugins", _PLUGINS), ("transports", ("websockets",))):
            chosen = self.folder / kind
            chosen.mkdir(exist_ok=True)
            for name in names:
                link = chosen / f"libjanus_{name}.so"
                link.unlink(missing_ok=True)
                link.symlink_to(installation.library / kind / link.name)
        general: _Settings = {
            "interface": self.address,
            "plugins_folder": str(self.folder / "plugins"),
            "transports_folder": str(self.folder / "transports"),
            "debug_level": 4,
            "debug_colors": False,
            "debug_timestamps": True,
        }
        if self._api_secret is not None:
            general["api_secret"] = self._api_secret
        if self._token_auth_secret is not None:
            general |= {"token_auth": True, "token_auth_secret": self._token_auth_secret}
        websocket: _Settings = {"json": "compact"}
        certificates: _Settings = {}
        if self._tls is None:
            websocket |= {"ws": True, "ws_ip": self.address, "ws_port": self.port, "wss": False}
        else:
            websocket |= {"ws": False, "wss": True, "wss_ip": self.address, "wss_port": self.port}
            certificates = {"cert_pem": str(self._tls[0]), "cert_key": str(self._tls[1])}
        nat: _Settings = {"ice_enforce_list": self.address, "nice_debug": False}
        plugin: dict[str, _Settings] = {"general": {"string_ids": self._string_ids}}
        files: dict[str, dict[str, _Settings]] = {
            "janus": {"general": general, "nat": nat, "media": {"ipv6": False}},
            "janus.transport.websockets": {"general": websocket, "certificates": certificates},
            **{f"janus.plugin.{name}": plugin for name in _PLUGINS},
        }
        for name, sections in files.items():
            _write_private(self.folder / f"{name}.jcfg", _libconfig(sections))


def _libconfig(sections: Mapping[str, _Settings]) -> str:
    """Groups of settings in libconfig's syntax; JSON's strings, numbers and booleans are valid there."""
    lines: list[str] = []
    for name, settings in sections.items():
        lines += [f"{name}: {{", *(f"  {key} = {json.dumps(value)}" for key, value in settings.items()), "}"]
    return "\n".join(lines) + "\n"


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])
