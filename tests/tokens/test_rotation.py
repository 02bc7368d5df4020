"""A terminal gets other keys and always has some that work, whatever is cut short, wrong or too early."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.agent import wiring
from dongled.agent.cli.main import main
from dongled.agent.control.client import fetch_status
from dongled.agent.demo.commands import PROGRAM, start, stop
from dongled.agent.errors import AgentError
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.agent.rotation import alone, pin_text, write_pin
from dongled.config.api import Settings, drop_ins, load
from dongled.tokens import provision, quirks, rotation, softhsm
from dongled.tokens.api import KeyRole
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.opened import Place
from dongled.tokens.quirks import Quirks
from support.authority import DAY, OTHER_TERMINAL, TERMINAL, Authority, name, new_key, pem, uris
from support.cutting_module import build_cutting_module
from support.power import PowerCut, power
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

    def pinned(self) -> dict[KeyRole, bytes]:
        """The keys' SHA-256, as the configuration has them."""
        token = self.settings().token
        assert token is not None
        return {KeyRole.IDENTITY: token.identity.digest, KeyRole.DATA: token.data.digest}

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


@pytest.fixture(scope="session")
def certified(template: SoftToken, tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    """A token to copy whose keys have certificates."""
    directory = tmp_path_factory.mktemp("certified")
    shutil.copytree(template.directory, directory, dirs_exist_ok=True)
    token = replace(template, directory=directory)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in softhsm.configure(directory).items():
            patch.setenv(variable, value)
        certify(token)
    return token


def certify(token: SoftToken) -> None:
    (token.directory / "root.pem").write_bytes(pem(ROOT.certificate))
    text = SETTINGS.format(token=token)
    for role, key in asyncio.run(provision.show(token.module, token.uri, token.pin)).keys.items():
        certificate = leaf(role, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.point))
        asyncio.run(provision.store_certificate(token.module, token.uri, token.pin, role, certificate))
        text += f'[token.{role.value}]\nid = "{key.cka_id.hex()}"\nsha256 = "{key.sha256.hex()}"\n'
    (token.directory / "dongled.toml").write_text(text)


@pytest.fixture
def site(certified: SoftToken, store: Path) -> Site:
    """This test's own."""
    shutil.copytree(certified.directory, store, dirs_exist_ok=True)
    softhsm.configure(store)
    return Site(replace(certified, directory=store))


def test_the_whole_way_beside_a_daemon(site: Site) -> None:
    """As an operator does it: the daemon goes on with the old keys until it is restarted."""
    before = site.pinned()

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

    def finish() -> subprocess.CompletedProcess[str]:
        while True:
            done = site.run("data", "--finish")
            # A busy machine's daemon may take longer than a person waits.
            if "[no-answer]" not in done.stderr:
                return done

    running = daemon()
    try:
        assert in_use(running) == {role.value: digest.hex() for role, digest in before.items()}
        asked = site.run("data", "--csr", site.folder / "data.csr")
        assert asked.returncode == 0, asked.stderr
        pinned = site.run("data", "--certificate", site.certified("data"))
        assert pinned.returncode == 0, pinned.stderr
        assert str(site.drop_in("data")) in pinned.stdout
        early = finish()
        assert "[rotation-early]" in early.stderr
        assert "restart it" in early.stderr
        stop(running)
        running = daemon()
        now = in_use(running)
        assert now["identity"] == before[KeyRole.IDENTITY].hex()
        assert now["data"] != before[KeyRole.DATA].hex()
        finished = finish()
        assert (finished.returncode, finished.stdout) == (0, "the old data key is removed\n"), finished.stderr
        assert in_use(running) == now
    finally:
        stop(running)
    assert {role.value: digest.hex() for role, digest in site.works().items()} == now
    assert site.objects() == AFTERWARDS
    secret = site.token.pin_text
    assert secret not in "".join(path.read_text() for path in (site.folder / "conf.d").iterdir())


@pytest.mark.fault("power cut at each step of a key rotation", backend="softhsm")
def test_the_power_fails_at_each_step_of_the_token(site: Site, tmp_path: Path) -> None:
    """The worker is killed between any two calls that change the token; the command goes no further."""
    settings = site.folder / "dongled.toml"
    settings.write_text(settings.read_text().replace(site.token.module, build_cutting_module(tmp_path)))
    role, old, cuts = KeyRole.IDENTITY, site.pinned(), []
    lines: tuple[tuple[str | Path, ...], ...] = (
        ("--csr", site.folder / "identity.csr"),
        ("--certificate", site.folder / "identity.pem"),
        ("--finish",),
    )
    for line in lines:
        if "--certificate" in line:
            site.certified("identity")
        kept = tmp_path / f"kept{line[0]}"
        (site.folder / "conf.d").mkdir(exist_ok=True)
        for part in ("tokens", "conf.d"):
            shutil.copytree(site.folder / part, kept / part)
        before = site.pinned()
        for cut in itertools.count(1):
            for part in ("tokens", "conf.d"):
                shutil.rmtree(site.folder / part)
                shutil.copytree(kept / part, site.folder / part)
            if not worker_killed(site, cut, "identity", *line):
                cuts.append(cut - 1)
                break
            # The next start: what was pinned works.
            assert site.works() == before
            # The same line again finishes it.
            site.done("identity", *line)
            if "--finish" in line:
                assert site.objects() == AFTERWARDS
    assert site.works()[role] != old[role]
    assert site.objects() == AFTERWARDS
    # A pair; a certificate; three objects removed, three labelled.
    assert cuts == [2, 2, 7]


def worker_killed(site: Site, cut: int, role: str, *more: str | Path) -> bool:
    """Give a line under a power that fails; False if it did not."""
    steps = site.folder / "steps"
    steps.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUT_STEPS", str(steps))
        patch.setenv("CUT_AT", str(cut))
        result = site.rotate(role, *more)
    assert result.exit_code == 0 or "[worker-lost]" in result.output, result.output
    return result.exit_code != 0


@pytest.mark.fault("power cut at each step of pinning a rotated key", backend="softhsm")
@pytest.mark.parametrize("earlier", [False, True], ids=["first", "again"])
def test_the_power_fails_at_each_step_of_pinning(tmp_path: Path, earlier: bool) -> None:
    """At each the configuration pins one key or the other, whole; both have their certificates by then."""
    folder = tmp_path / "conf.d"
    drop_in = folder / "60-data-key.toml"
    old, new = "[token.data]\nid = '01'\n", "[token.data]\nid = '02'\n"
    seen = set()
    for cut in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        if earlier:
            folder.mkdir()
            drop_in.write_text(old)
        try:
            with power(cut):
                write_pin(drop_in, new)
            break
        except PowerCut:
            pass
        found = {path.name: path.read_text() for path in drop_ins(tmp_path / "dongled.toml")}
        assert found in ({}, {drop_in.name: old}, {drop_in.name: new})
        assert found or not earlier
        seen.add(found.get(drop_in.name))
        write_pin(drop_in, new)
        assert drop_in.read_text() == new
    assert seen == {old if earlier else None, new}
    mask = os.umask(0o077)
    write_pin(drop_in, new)
    os.umask(mask)
    assert stat.S_IMODE(drop_in.stat().st_mode) == 0o644
    assert cut - 1 == 8


def test_half_a_pair_is_made_anew(site: Site) -> None:
    """Cut in the middle of making it: one half is on the token, and no other."""
    before, objects, store = site.pinned(), site.objects(), site.folder / "tokens"
    halves = sorted(f"{kind} Key identity-next" for kind in ("Private", "Public"))
    there = set(store.rglob("*.object"))
    site.request("identity")
    made = sorted(set(store.rglob("*.object")) - there)
    assert len(made) == 2
    for lost in range(2):
        made = sorted(set(store.rglob("*.object")) - there)
        made[lost].unlink()
        assert site.works() == before
        site.request("identity")
        assert site.objects() == sorted([*objects, *halves])
    assert site.works() == before


def test_a_wrong_certificate_changes_nothing(site: Site) -> None:
    before = site.pinned()
    pinned = asyncio.run(provision.show(site.token.module, site.token.uri, site.token.pin)).keys
    path = site.folder / "wrong.pem"
    path.write_bytes(pem(leaf(KeyRole.DATA, new_key())))
    site.refused("rotation-not-begun", "data", "--certificate", path)
    site.request("data")
    objects = site.objects()
    key = x509.load_pem_x509_csr((site.folder / "data.csr").read_bytes()).public_key()
    now = public(pinned[KeyRole.DATA])
    for reason, certificate in {
        "est-other-key": leaf(KeyRole.DATA, now),
        "est-other-terminal": leaf(KeyRole.DATA, key, san=uris(OTHER_TERMINAL)),
        "est-other-subject": leaf(KeyRole.DATA, key, subject=name("gate")),
        "certificate-usage": leaf(KeyRole.IDENTITY, key),
        "chain-untrusted": leaf(KeyRole.DATA, key, Authority.root(**VALID)),
        "expired": leaf(KeyRole.DATA, key, begin=NOW - 3 * DAY, end=NOW - 2 * DAY),
    }.items():
        path.write_bytes(pem(certificate))
        site.refused(reason, "data", "--certificate", path)
    path.write_bytes(b"-----BEGIN CERTIFICATE-----")
    site.refused("certificate-malformed", "data", "--certificate", path)
    assert not site.drop_in("data").exists()
    assert site.objects() == objects
    assert site.works() == before


def test_finishing_too_early_removes_nothing(site: Site) -> None:
    objects = site.objects()
    site.done("data", "--finish")
    assert site.objects() == objects
    site.request("data")
    site.refused("rotation-early", "data", "--finish")
    # Pinned by hand, without a certificate; then the wrong way round.
    token, pin = site.token, site.settings().token
    assert pin is not None
    place = Place(token.module, token.uri, token.pin)
    pair = asyncio.run(rotation.look(place, KeyRole.DATA, wiring.key_pin(pin.data)))
    assert pair.following is not None
    write_pin(site.drop_in("data"), pin_text(pair.following, None))
    site.refused("no-certificate", "data", "--finish")
    site.refused("no-certificate", "data")
    other = site.folder / "other.pem"
    other.write_bytes(pem(leaf(KeyRole.DATA, new_key())))
    write_pin(site.drop_in("data"), pin_text(pair.following, other))
    site.refused("est-other-key", "data", "--finish")
    site.drop_in("data").unlink()
    assert set(objects) < set(site.objects())
    site.done("data", "--certificate", site.certified("data"))
    site.refused("rotation-unfinished", "data")
    # Back to the old key: possible until the end.
    site.drop_in("data").unlink()
    assert site.works()[KeyRole.DATA] == pair.pinned.sha256
    site.refused("rotation-early", "data", "--finish")


def test_a_chain_is_named_and_a_pin_elsewhere_noticed(site: Site) -> None:
    issuer = ROOT.intermediate(**VALID)
    site.request("data")
    asked = x509.load_pem_x509_csr((site.folder / "data.csr").read_bytes())
    path = site.folder / "data.pem"
    certificate = leaf(KeyRole.DATA, asked.public_key(), issuer)
    path.write_bytes(pem(certificate))
    site.refused("chain-untrusted", "data", "--certificate", path)
    path.write_bytes(pem(certificate) + pem(issuer.certificate))
    site.folder.joinpath("conf.d").mkdir()
    later = site.folder / "conf.d" / "99-mine.toml"
    later.write_text(f'[token.data]\nsha256 = "{site.pinned()[KeyRole.DATA].hex()}"\n')
    site.refused("pin-overridden", "data", "--certificate", path)
    later.unlink()
    site.done("data", "--certificate", path)
    assert f'certificate = "{path}"' in site.drop_in("data").read_text()
    site.done("data", "--finish")
    assert site.works() == site.pinned()


@pytest.mark.fault("a full token, while keys are rotated")
def test_a_full_token_keeps_the_old_key(site: Site, small: SoftToken) -> None:
    filler = small.directory / "tokens" / "filler"
    before = site.pinned()
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    site.refused("token-fault", "data", "--csr", site.folder / "data.csr")
    assert site.works() == before
    filler.unlink()
    site.request("data")
    assert site.objects().count("Public Key data-next") == 1
    assert site.works() == before


def test_two_at_once_are_one(site: Site) -> None:
    site.request("data")
    with alone(site.folder / "state"):
        site.refused("rotation-busy", "data")
        site.refused("rotation-busy", "identity", "--finish")
    site.done("data")
    assert site.objects().count("Private Key data-next") == 1


def test_somebody_elses_key_is_not_removed(site: Site) -> None:
    """Two terminals may share a token, and tell their keys apart by pins alone."""
    site.request("data")
    site.done("data", "--certificate", site.certified("data"))
    pkcs11_tool(site.token, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "data", "--id", "77")
    objects = site.objects()
    assert objects.count("Private Key data") == 2
    site.refused("rotation-unable", "data", "--finish")
    site.refused("rotation-unable", "data")
    assert site.objects() == objects
    assert site.works() == site.pinned()


def test_a_card_with_fixed_places_says_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = site.settings().token
    assert pin is not None
    monkeypatch.setattr(quirks, "of", lambda names: Quirks(places={KeyRole.DATA: pin.data.cka_id}))
    site.refused("rotation-unable", "data")
    assert "second card" in site.rotate("data").output


def test_an_instance_is_told_what_to_pin(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop-ins are every instance's."""
    site.request("data")
    certificate = site.certified("data")
    result = site.rotate("data", "--instance", "door", "--certificate", certificate)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# Written by")
    assert "every instance's" in result.stderr
    assert not site.drop_in("data").exists()
