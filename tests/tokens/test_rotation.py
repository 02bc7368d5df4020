"""A terminal gets other keys, and at no moment has none that works: whatever is cut short, wrong, or too early."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent import wiring
from dongled.agent import rotation as rotating
from dongled.agent.cli.main import main
from dongled.agent.control.client import fetch_status
from dongled.agent.demo.commands import PROGRAM, start, stop
from dongled.agent.errors import AgentError
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.config.api import Settings, load
from dongled.tokens import provision
from dongled.tokens.api import KeyInfo, KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import MemoryLedger
from support.authority import DAY, OTHER_TERMINAL, TERMINAL, Authority, name, pem, uris
from support.cutting_module import build_cutting_module
from tokens.bench import SoftToken, pkcs11_tool, point_of
from tokens.test_opened import public, verify

ROLES = (KeyRole.IDENTITY, KeyRole.DATA)
NOW = datetime.now(UTC)
VALID: dict[str, Any] = {"begin": NOW - DAY, "end": NOW + DAY}
ROOT = Authority.root(**VALID)
SETTINGS = """\
[terminal]
name = "door"
[token]
module = "{token.module}"
uri = "{token.uri}"
pin-file = "pin"
[trust]
roots = ["root.pem"]
time-source = "system"
[state]
directory = "state"
[control]
socket = "control.sock"
[[meeting]]
name = "lobby"
room = "lobby"
[meeting.sfu]
url = "ws://127.0.0.1:9"
"""


def leaf(role: KeyRole, key: Any, issuer: Authority = ROOT, **how: Any) -> x509.Certificate:
    """Valid now, the door's."""
    make = issuer.leaf if role is KeyRole.IDENTITY else issuer.data_leaf
    return make(key, **{"subject": name("door"), **VALID, **how})


@dataclass(frozen=True)
class Site:
    """A terminal whose two keys are certified; ``token.directory`` has its settings too."""

    token: SoftToken

    @property
    def folder(self) -> Path:
        return self.token.directory

    def settings(self) -> Settings:
        return load(self.folder / "dongled.toml", {}, {}, None)

    def line(self, role: str, *more: str | Path) -> list[str]:
        config = self.folder / "dongled.toml"
        return [str(part) for part in ("token", "rotate", "--config", config, "--role", role, *more)]

    def run(self, role: str, *more: str | Path) -> subprocess.CompletedProcess[str]:
        """As its user types it."""
        line = [str(PROGRAM), *self.line(role, *more)]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)

    def rotate(self, role: str, *more: str | Path) -> Result:
        """The same in this process."""
        return CliRunner().invoke(main, self.line(role, *more))

    def done(self, role: str, *more: str | Path) -> None:
        result = self.rotate(role, *more)
        assert result.exit_code == 0, result.output

    def refused(self, reason: str, role: str, *more: str | Path) -> None:
        result = self.rotate(role, *more)
        assert f"[{reason}]" in result.output
        assert "hint: " in result.output
        assert result.exit_code != 0

    def request(self, role: str) -> None:
        self.done(role, "--csr", self.folder / f"{role}.csr")

    def drop_in(self, role: str) -> Path:
        return self.folder / "conf.d" / f"60-{role}-key.toml"

    def certified(self, role: str) -> Path:
        """The certificate that the role's request asks for."""
        asked = x509.load_pem_x509_csr((self.folder / f"{role}.csr").read_bytes())
        assert asked.is_signature_valid
        assert asked.subject == name("door")
        alternative = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(alternative) == uris(TERMINAL)
        path = self.folder / f"{role}.pem"
        path.write_bytes(pem(leaf(KeyRole(role), asked.public_key())))
        return path

    def works(self) -> dict[KeyRole, bytes]:
        """Both keys that are pinned do their work, and their certificates are believed; their SHA-256."""
        return asyncio.run(self._works())

    async def _works(self) -> dict[KeyRole, bytes]:
        settings = self.settings()
        ledger = MemoryLedger()
        keys = await wiring.key_opener(settings, ledger, wiring.places(settings))()
        try:
            verify(keys.identity, await keys.sign(b"d" * 32), b"d" * 32)
            peer = ec.generate_private_key(ec.SECP256R1())
            assert await keys.derive(point_of(peer), "peer") == peer.exchange(ec.ECDH(), public(keys.data))
            policy = CertificatePolicy([pem(ROOT.certificate)], TrustedClock("system"))
            terminal = wiring.open_terminal(settings, keys, policy)
            assert terminal.urn == TERMINAL
            known = policy.check_identity(terminal.identity_chain)
            assert policy.check_data_key(known, terminal.data_chain, keys.data.point)
            return {KeyRole.IDENTITY: keys.identity.sha256, KeyRole.DATA: keys.data.sha256}
        finally:
            await keys.close()

    def objects(self) -> list[str]:
        """What is on the token, by OpenSC's eyes: kind and label."""
        listing = pkcs11_tool(self.token, "--list-objects").splitlines()
        kinds = [line.split(" Object")[0] for line in listing if " Object" in line]
        labels = [line.split(":")[1].strip() for line in listing if line.strip().startswith("label:")]
        return sorted(f"{kind} {label}" for kind, label in zip(kinds, labels, strict=True))


AFTERWARDS = sorted(
    f"{kind} {role}" for kind in ("Certificate", "Private Key", "Public Key") for role in ROLES
)


def certified_site(token: SoftToken) -> Site:
    (token.directory / "root.pem").write_bytes(pem(ROOT.certificate))
    text = SETTINGS.format(token=token)
    for role, key in asyncio.run(provision.show(token.module, token.uri, token.pin)).keys.items():
        certificate = leaf(role, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.point))
        asyncio.run(provision.store_certificate(token.module, token.uri, token.pin, role, certificate))
        text += f'[token.{role.value}]\nid = "{key.cka_id.hex()}"\nsha256 = "{key.sha256.hex()}"\n'
    (token.directory / "dongled.toml").write_text(text)
    return Site(token)


@pytest.fixture
def site(token: SoftToken) -> Site:
    return certified_site(token)


def test_the_whole_way_beside_a_daemon(site: Site) -> None:
    """As an operator does it: the daemon goes on with the old keys until it is restarted."""
    before = site.works()

    def daemon() -> subprocess.Popen[bytes]:
        return start("run", "--config", site.folder / "dongled.toml", env={}, log=site.folder / "log")

    def in_use(running: subprocess.Popen[bytes]) -> dict[str, str]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert running.poll() is None, (site.folder / "log").read_text()
            try:
                token = asyncio.run(fetch_status(site.folder / "control.sock")).token
            except AgentError:
                # A status has to be asked for: there is nothing to wait on.
                time.sleep(0.05)
                continue
            if token.state == "READY":
                return {key.role: key.sha256 for key in token.keys}
        raise AssertionError((site.folder / "log").read_text())

    running = daemon()
    try:
        assert in_use(running) == {role.value: digest.hex() for role, digest in before.items()}
        for role in ("identity", "data"):
            asked = site.run(role, "--csr", site.folder / f"{role}.csr")
            assert asked.returncode == 0, asked.stderr
            certificate = site.certified(role)
            pinned = site.run(role, "--certificate", certificate)
            assert pinned.returncode == 0, pinned.stderr
            assert str(site.drop_in(role)) in pinned.stdout
            early = site.run(role, "--finish")
            assert "[rotation-early]" in early.stderr
            assert "restart it" in early.stderr
        assert stop(running) == 0
        running = daemon()
        now = in_use(running)
        assert set(now.values()).isdisjoint(digest.hex() for digest in before.values())
        for role in ("identity", "data"):
            for said in (f"the old {role} key is removed\n", f"no {role} key is to be removed\n"):
                finished = site.run(role, "--finish")
                assert (finished.returncode, finished.stdout) == (0, said), finished.stderr
        assert in_use(running) == now
    finally:
        stop(running)
    assert {role.value: digest.hex() for role, digest in site.works().items()} == now
    assert site.objects() == AFTERWARDS
    secret = site.token.pin_text
    assert secret not in "".join(path.read_text() for path in (site.folder / "conf.d").iterdir())
    # The labels are the roles' again, and the next rotation begins like the first.
    keys = asyncio.run(provision.show(site.token.module, site.token.uri, site.token.pin)).keys
    assert {role.value: key.sha256.hex() for role, key in keys.items()} == now
    site.request("data")
    assert site.works() == {role: key.sha256 for role, key in keys.items()}


class PowerCut(BaseException):
    """Nothing runs after it."""


@contextmanager
def power(site: Site, cut: int) -> Iterator[None]:
    """It fails at that step of those that change the token or a file of the rotation."""
    steps = site.folder / "steps"
    steps.unlink(missing_ok=True)
    opened, renamed, sync = Path.open, Path.replace, os.fsync
    unsynced: set[Path] = set()

    def boundary() -> None:
        with opened(steps, "ab") as file:
            file.write(b".")
        if steps.stat().st_size == cut:
            for path in unsynced:
                os.truncate(path, path.stat().st_size // 2)
            raise PowerCut

    def ours(path: Path) -> bool:
        return path.parent.name == "conf.d" or path.suffix == ".csr" or path.name == "conf.d"

    def open_file(self: Path, mode: str = "r", *rest: Any, **how: Any) -> IO[Any]:
        if "w" not in mode or not ours(self):
            return opened(self, mode, *rest, **how)
        boundary()
        file: IO[Any] = opened(self, mode, *rest, **how)
        unsynced.add(self)
        boundary()
        return file

    def replace_file(self: Path, target: Path) -> Path:
        if not ours(self):
            return renamed(self, target)
        boundary()
        done = renamed(self, target)
        if self in unsynced:
            unsynced.remove(self)
            unsynced.add(target)
        boundary()
        return done

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not ours(path):
            return sync(descriptor)
        boundary()
        sync(descriptor)
        unsynced.discard(path)
        boundary()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUT_STEPS", str(steps))
        patch.setenv("CUT_AT", str(cut))
        patch.setattr(Path, "open", open_file)
        patch.setattr(Path, "replace", replace_file)
        patch.setattr(os, "fsync", fsync)
        yield


def was_cut(site: Site, cut: int, role: str, *more: str | Path) -> bool:
    """Give a line under a power that fails; False if it did not."""
    with power(site, cut):
        try:
            result = site.rotate(role, *more)
        except PowerCut:
            return True
    if result.exit_code == 0:
        return False
    assert "[worker-lost]" in result.output, result.output
    return True


@pytest.mark.fault("power cut at each step of a key rotation", backend="softhsm")
def test_the_power_fails_at_each_step(token: SoftToken, tmp_path: Path) -> None:
    """The worker is killed before and after each call that changes the token, the command at each file's."""
    site = certified_site(replace(token, module=build_cutting_module(tmp_path)))
    role = KeyRole.IDENTITY
    old = site.works()
    cuts = []
    lines: tuple[tuple[str | Path, ...], ...] = (
        ("--csr", site.folder / "identity.csr"),
        ("--certificate", site.folder / "identity.pem"),
        ("--finish",),
    )
    for line in lines:
        if "--certificate" in line:
            site.certified("identity")
        kept = tmp_path / f"kept{line[0]}"
        for part in ("tokens", "conf.d"):
            (site.folder / part).mkdir(exist_ok=True)
            shutil.copytree(site.folder / part, kept / part)
        pinned = site.works()
        for cut in itertools.count(1):
            for part in ("tokens", "conf.d"):
                shutil.rmtree(site.folder / part)
                shutil.copytree(kept / part, site.folder / part)
            if not was_cut(site, cut, role, *line):
                cuts.append(cut - 1)
                break
            # The next start: what is pinned works, be it the old or the new one.
            first = site.works()
            assert first[KeyRole.DATA] == old[KeyRole.DATA]
            if first[role] != pinned[role]:
                assert "--certificate" in line
            # The same line again finishes it.
            site.done(role, *line)
            if "--finish" in line:
                assert site.objects() == AFTERWARDS
    assert site.works()[role] != old[role]
    assert site.objects() == AFTERWARDS
    # A pair, and its request; a certificate, and its pin; three objects removed, three labelled.
    assert cuts == [4, 10, 12]
