"""Cloudflare's cfssl as the platform: an authority, its lists and its OCSP answers, none of them made here.

cfssl cannot write a terminal's name (a URI), and one built with Go before 1.22 cannot read a certificate that
holds our policies (docs/certificates.md). So leaves are signed here with its authority's key, and its OCSP
answers are about one without policies; revocation does not look at them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.policy.asking import asking
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import Kind, Role
from dongled.agent.policy.revocation import Mode
from support.authority import DAY, TERMINAL, Authority, der, pem

pytestmark = pytest.mark.property("P3")

ANY_POLICY = {"id": "2.5.29.32.0"}
YESTERDAY = (datetime.now(UTC) - DAY).strftime("%Y-%m-%d")


def now() -> datetime:
    return datetime.now(UTC)


def cfssl(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["cfssl", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Platform:
    """A root and an authority under it, keys and certificates by ``cfssl gencert``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = self._made("root", "-initca", "root.json")
        profile = {
            "usages": ["cert sign", "crl sign"],
            "expiry": "720h",
            "ca_constraint": {"is_ca": True, "max_path_len_zero": True},
            "policies": [ANY_POLICY],
        }
        config = {"signing": {"default": {"expiry": "24h"}, "profiles": {"issuing": profile}}}
        (directory / "config.json").write_text(json.dumps(config))
        self.issuing = self._made(
            "issuing", "-ca=root.pem", "-ca-key=root.key", "-config=config.json", "-profile=issuing",
            "issuing.json",
        )  # fmt: skip

    def _made(self, name: str, *arguments: str) -> Authority:
        wanted = {"CN": name, "key": {"algo": "ecdsa", "size": 256}, "names": [{"O": "Example"}]}
        (self.directory / f"{name}.json").write_text(json.dumps(wanted))
        made = json.loads(cfssl(self.directory, "gencert", *arguments))
        (self.directory / f"{name}.pem").write_text(made["cert"])
        (self.directory / f"{name}.key").write_text(made["key"])
        key = load_pem_private_key(made["key"].encode(), None)
        return Authority(key, x509.load_pem_x509_certificate(made["cert"].encode()))

    def leaf(self, **how: Any) -> x509.Certificate:
        return self.issuing.leaf(begin=now() - DAY, end=now() + DAY, **how)

    def crl(self, *revoked: x509.Certificate, by: str = "issuing") -> Path:
        (self.directory / "serials").write_text("".join(f"{each.serial_number}\n" for each in revoked))
        text = cfssl(self.directory, "gencrl", "serials", f"{by}.pem", f"{by}.key")
        path = self.directory / f"{by}.crl"
        path.write_bytes(base64.b64decode(text))
        return path

    def ocsp(self, leaf: x509.Certificate, *status: str, by: str = "issuing") -> str:
        (self.directory / "leaf.pem").write_bytes(pem(leaf))
        made = cfssl(
            self.directory, "ocspsign", f"-ca={by}.pem", f"-responder={by}.pem",
            f"-responder-key={by}.key", "-cert=leaf.pem", *status,
        )  # fmt: skip
        return str(json.loads(made)["ocspResponse"])


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


@asynccontextmanager
async def served(directory: Path, answers: list[str]) -> AsyncIterator[str]:
    """``cfssl ocspserve`` with these answers; its URL."""
    (directory / "answers").write_text("\n".join(answers))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "cfssl", "ocspserve", "-address=127.0.0.1", f"-port={port}", "-responses=answers", "-loglevel=1",
        cwd=directory, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b"Now listening" not in (line := await process.stderr.readline()):
                assert line
        yield f"http://127.0.0.1:{port}/"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_its_chain_passes_and_its_own_certificates_are_no_terminals(platform: Platform) -> None:
    verifier = CertificateVerifier([pem(platform.root.certificate)], TrustedClock("system", wall=now))
    chain = [der(platform.leaf()), der(platform.issuing.certificate)]
    found = verifier.verify(chain, Kind.IDENTITY)
    assert (found.terminal, found.roles) == (TERMINAL, frozenset({Role.VIEWER}))
    with pytest.raises(PolicyRefused) as refused:
        verifier.verify(chain[1:], Kind.IDENTITY)
    assert refused.value.reason == "leaf-is-ca"


async def test_its_list_says_who_is_revoked(platform: Platform) -> None:
    good, bad = platform.leaf(), platform.leaf()
    files = [platform.crl(bad), platform.crl(by="root")]
    for leaf, verdict in ((good, "good"), (bad, "revoked")):
        path = [leaf, platform.issuing.certificate, platform.root.certificate]
        async with asking(Mode.CRL, path, now, crls=files) as here:
            await here.until(verdict)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (["-status=good"], "good"),
        (["-status=revoked", "-reason=1", f"-revoked-at={YESTERDAY}"], "revoked"),
    ],
)
async def test_its_responder_answers(platform: Platform, status: list[str], verdict: str) -> None:
    leaf = platform.leaf(policies=())
    answers = [
        platform.ocsp(leaf, *status),
        platform.ocsp(platform.issuing.certificate, "-status=good", by="root"),
    ]
    path = [leaf, platform.issuing.certificate, platform.root.certificate]
    async with (
        served(platform.directory, answers) as url,
        asking(Mode.OCSP, path, now, responder=url) as here,
    ):
        await here.until(verdict)


async def test_an_answer_about_another_certificate_proves_nothing(platform: Platform) -> None:
    leaf, other = platform.leaf(policies=()), platform.leaf(policies=())
    async with (
        served(platform.directory, [platform.ocsp(other, "-status=good")]) as url,
        asking(Mode.OCSP, [leaf, platform.issuing.certificate], now, responder=url) as here,
    ):
        assert await here.settled() != "good"
