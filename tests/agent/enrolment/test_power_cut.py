"""The power fails at every single step of a renewal, in turn; what was not synced to the disk is lost.

After the next start a certificate that is believed is in use, the old one or the new one, and the renewal is
finished or begun again. test_enroll.py does a part of it with a real token and a real server.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import pytest
from cryptography import x509

from agent.enrolment.requests import request
from dongled.agent.enrolment import kept
from dongled.agent.enrolment.enroller import ROLES, Enroller, Request, TokenAccess
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import Kind
from dongled.tokens import provision
from dongled.tokens.api import KeyAttributes, KeyInfo, KeyRole
from dongled.tokens.describe import issued_at
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import Place
from support.authority import NOW, TERMINAL, Authority, der, name, new_key, point

ROOT = Authority.root()
# Not the root itself: a leaf without what leads to it would be as good as none.
ISSUER = ROOT.intermediate()
KEYS = {role: new_key() for role in ROLES}
KINDS = {KeyRole.IDENTITY: "identity", KeyRole.DATA: "data"}
ATTRIBUTES = KeyAttributes(True, True, True, False, True, True, True)
CLOCK = TrustedClock("system", wall=lambda: NOW, steady=lambda: 0.0)
VERIFIER = CertificateVerifier([der(ROOT.certificate)], CLOCK)


class PowerCut(BaseException):
    """Nothing runs after it."""


class Device:
    """A state directory, a token that may refuse to be written to, and the platform that it asks.

    ``cut_at``: the step at which the power fails; ``step`` counts them.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self.folder = folder
        self.writable = writable
        self.step, self.cut_at = 0, -1
        self.unsynced: set[Path] = set()
        self.renamed: dict[Path, bytes | None] = {}
        self.token: dict[KeyRole, list[bytes]] = {role: [] for role in ROLES}
        self.issued = 0

    def boundary(self) -> None:
        self.step += 1
        if self.step == self.cut_at:
            raise PowerCut

    def lose(self, *, names: bool) -> None:
        """What no fsync had promised: half of a file, and with ``names`` what a directory was told last."""
        for path in self.unsynced:
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)
        if names:
            for path, before in self.renamed.items():
                path.unlink(missing_ok=True)
                if before is not None:
                    path.write_bytes(before)
        self.unsynced.clear()
        self.renamed.clear()
        self.cut_at = -1

    def issue(self, role: KeyRole) -> x509.Certificate:
        """Each begins and ends later than the one before."""
        self.issued += 1
        validity: dict[str, datetime] = {
            "begin": NOW - timedelta(hours=20) + timedelta(seconds=self.issued),
            "end": NOW + timedelta(hours=20) + timedelta(seconds=self.issued),
        }
        make = ISSUER.leaf if role is KeyRole.IDENTITY else ISSUER.data_leaf
        return make(KEYS[role], subject=name("door"), **cast(Any, validity))

    def key(self, role: KeyRole) -> KeyInfo:
        # Of two on a token the later one counts, as with the real ones (test_enroll.py).
        on_token = max(self.token[role], key=issued_at, default=None)
        sec1 = point(KEYS[role])
        digest = hashlib.sha256(sec1).digest()
        return KeyInfo(role, bytes([1]), role.value, sec1, digest, ATTRIBUTES, on_token)

    def start(self) -> Enroller:
        keys = SimpleNamespace(identity=self.key(KeyRole.IDENTITY), data=self.key(KeyRole.DATA))
        access = TokenAccess(Place("module", "uri", cast(Any, None)), cast(Any, None))
        wanted = Request(name("door"), TERMINAL, dict.fromkeys(ROLES))
        chains = kept.KeptChains(self.folder)
        client: Any = lambda server: Platform(self)  # noqa: E731 - the class of a client, to the enroller
        tokens = dict.fromkeys(ROLES, access)
        return Enroller(cast(Any, keys), tokens, cast(Any, None), wanted, VERIFIER, CLOCK, chains, client)


class Platform:
    """What the enroller uses of an EstClient; each answer may be lost on the way, too."""

    def __init__(self, device: Device) -> None:
        self._device = device

    async def __aenter__(self) -> Platform:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def authorities(self, label: str | None) -> list[x509.Certificate]:
        self._device.boundary()
        return [ISSUER.certificate]

    async def enroll(
        self, csr: x509.CertificateSigningRequest, label: str | None, *, again: bool
    ) -> x509.Certificate:
        self._device.boundary()
        usage = csr.extensions.get_extension_for_class(x509.KeyUsage).value
        issued = self._device.issue(KeyRole.IDENTITY if usage.digital_signature else KeyRole.DATA)
        self._device.boundary()
        return issued


@contextmanager
def watched(device: Device) -> Iterator[None]:
    """Every write, sync, rename and token operation of the enroller is a step, before it and after."""
    opened, replace, make, sync, raw = Path.open, Path.replace, Path.mkdir, os.fsync, os.open

    def open_file(self: Path, mode: str = "r", *rest: Any, **how: Any) -> IO[Any]:
        writes = {*"wx"} & {*mode} and device.folder in self.parents
        if writes:
            device.boundary()
            device.unsynced.add(self)
        file: IO[Any] = opened(self, mode, *rest, **how)
        if writes:
            device.boundary()
        return file

    def fsync(descriptor: int) -> None:
        device.boundary()
        sync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        device.unsynced.discard(path)
        if path.is_dir():
            device.renamed.clear()
        device.boundary()

    def rename(self: Path, target: Path) -> Path:
        device.boundary()
        device.renamed.setdefault(target, target.read_bytes() if target.exists() else None)
        if self in device.unsynced:
            device.unsynced.add(target)
        done = replace(self, target)
        device.boundary()
        return done

    def mkdir(self: Path, *rest: Any, **how: Any) -> None:
        device.boundary()
        make(self, *rest, **how)

    def open_raw(path: Any, *rest: Any, **how: Any) -> int:
        device.boundary()
        return raw(path, *rest, **how)

    async def sign(module: str, uri: str, pin: object, role: KeyRole, *_: Any, **__: Any) -> Any:
        device.boundary()
        return request(KEYS[role], KINDS[role])

    async def store(
        module: str, uri: str, pin: object, role: KeyRole, certificate: x509.Certificate, **_: Any
    ) -> KeyInfo:
        device.boundary()
        if not device.writable:
            raise TokenError("token-unable", "it takes none")
        earlier = list(device.token[role])
        device.token[role].append(der(certificate))
        device.boundary()
        for old in earlier:
            device.token[role].remove(old)
            device.boundary()
        return device.key(role)

    with pytest.MonkeyPatch.context() as patch:
        for where, what, instead in (
            (Path, "open", open_file), (Path, "replace", rename), (Path, "mkdir", mkdir),
            (os, "fsync", fsync), (os, "open", open_raw),
            (provision, "request_certificate", sign), (provision, "store_certificate", store),
        ):  # fmt: skip
            patch.setattr(where, what, instead)
        yield


def renew(device: Device) -> None:
    async def both() -> None:
        enroller = device.start()
        await enroller.finish()
        for role in ROLES:
            await enroller.enrol(role)

    asyncio.run(both())


def in_use(device: Device) -> dict[KeyRole, bytes]:
    """The leaves, each believed with its chain."""
    enroller = device.start()
    found = {role: enroller.chain(role) for role in ROLES}
    for role, chain in found.items():
        VERIFIER.verify(chain, Kind(KINDS[role]))
    return {role: chain[0] for role, chain in found.items()}


@pytest.mark.fault("power cut at each step of a renewal")
@pytest.mark.parametrize("names", [False, True], ids=["renamed", "rename lost"])
@pytest.mark.parametrize("writable", [True, False], ids=["token written", "token not written"])
def test_the_power_fails_at_every_step(tmp_path: Path, writable: bool, names: bool) -> None:
    seen: set[tuple[bool, ...]] = set()
    for cut in itertools.count(1):
        device = Device(tmp_path / str(cut), writable=writable)
        with watched(device):
            renew(device)
            device.step, device.cut_at = 0, cut
            old = in_use(device)
            try:
                renew(device)
                break
            except PowerCut:
                device.lose(names=names)

            # The next start: one of the two works, at once and before anybody is asked.
            before = device.issued
            first = in_use(device)
            for role in ROLES:
                assert first[role] == old[role] or issued_at(first[role]) > issued_at(old[role])
            seen.add(tuple(first[role] != old[role] for role in ROLES))

            # It is finished, or begun again.
            enroller = device.start()
            asyncio.run(enroller.finish())
            assert device.issued == before
            if writable:
                assert all(enroller.on_token(role) for role in ROLES)
            renew(device)
            last = in_use(device)
            assert all(issued_at(last[role]) > issued_at(first[role]) for role in ROLES)
            if writable:
                assert device.token == {role: [leaf] for role, leaf in last.items()}
    assert cut > 20
    assert seen == {(False, False), (True, False), (True, True)}
