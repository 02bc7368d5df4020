"""Asking openssl's responder and reading openssl's lists, by the real time, which openssl judges by."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.policy.asking import asking
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.revocation import Mode, Revocations
from dongled.agent.policy.verifier import CertificatePolicy
from support.authority import DAY
from support.openssl import OpensslAuthority, openssl
from support.responder import openssl_responder

pytestmark = pytest.mark.property("P3")


def now() -> datetime:
    return datetime.now(UTC)


class Platform(OpensslAuthority):
    """A root valid now, for openssl judges by the real time."""

    def issue(self, name: str, section: str, *how: str, **more: Any) -> Path:
        return super().issue(name, section, *how, **{"begin": now() - DAY, "end": now() + DAY, **more})

    def revoke(self, name: str) -> None:
        openssl(
            self.directory, "ca", "-config", "openssl.cnf", "-keyfile", "root.key", "-cert", "root.pem",
            "-revoke", f"{name}.pem", "-crl_reason", "keyCompromise",
        )  # fmt: skip


RESPONDER = """
[responder]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {purpose}
authorityKeyIdentifier = keyid
"""


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform(tmp_path, RESPONDER.format(purpose="OCSPSigning"))
    made.issue("terminal", "identity")
    return made


def terminals(platform: Platform) -> list[x509.Certificate]:
    return [load(platform.directory / "terminal.pem"), load(platform.directory / "root.pem")]


async def test_openssl_says_good_and_then_revoked(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        async with openssl_responder(platform.directory, "-nmin", "5") as url:
            here = await stack.enter_async_context(asking(Mode.OCSP, terminals(platform), now, responder=url))
            assert await here.settled() == "good"
        await asyncio.to_thread(platform.revoke, "terminal")
        assert await here.again() == "good"
        async with openssl_responder(platform.directory, "-nmin", "5", url=url):
            assert await here.again() == "revoked"


async def test_what_openssl_said_to_a_terminal_convinces_who_cannot_ask(platform: Platform) -> None:
    root = (platform.directory / "root.pem").read_bytes()
    chain = [load(platform.directory / "terminal.pem").public_bytes(Encoding.DER)]

    def policy(revocations: Revocations, clock: TrustedClock) -> CertificatePolicy:
        return CertificatePolicy([root], clock, revocations=revocations, max_age=DAY)

    async with (
        openssl_responder(platform.directory, "-nmin", "5") as url,
        asking(Mode.OCSP, terminals(platform), now, responder=url) as here,
    ):
        viewer = policy(here.revocations, here.clock)
        assert await here.settled() == "good"
        brought = viewer.known_answers([chain])
    camera = policy(Revocations(Mode.OCSP), TrustedClock("system", wall=now))
    with pytest.raises(PolicyRefused, match="asked whether"):
        camera.check_identity(chain)
    camera.staple([chain], brought)
    assert camera.check_identity(chain).roles


async def test_openssls_delegated_responder(platform: Platform) -> None:
    platform.issue("delegate", "responder")
    async with (
        openssl_responder(platform.directory, "-nmin", "5", signer="delegate") as url,
        asking(Mode.OCSP, terminals(platform), now, responder=url) as here,
    ):
        assert await here.settled() == "good"


async def test_openssls_responder_without_the_right_to_be_one(platform: Platform) -> None:
    platform.issue("imposter", "identity")
    async with (
        openssl_responder(platform.directory, "-nmin", "5", signer="imposter") as url,
        asking(Mode.OCSP, terminals(platform), now, responder=url) as here,
    ):
        assert await here.settled() == "ocsp-responder"


async def test_openssl_does_not_know_it(platform: Platform) -> None:
    (platform.directory / "empty.txt").touch()
    async with (
        openssl_responder(platform.directory, "-nmin", "5", index="empty.txt") as url,
        asking(Mode.OCSP, terminals(platform), now, responder=url) as here,
    ):
        assert await here.settled() == "ocsp-unknown"


async def test_openssls_answer_runs_out_and_the_responder_dies(platform: Platform) -> None:
    async with (
        openssl_responder(platform.directory, "-nmin", "1") as url,
        asking(Mode.OCSP, terminals(platform), now, responder=url) as here,
    ):
        assert await here.settled() == "good"
        here.wall = lambda: now() + timedelta(minutes=2)
        assert here.verdict() == "ocsp-stale"
        assert await here.again() == "ocsp-stale"
        here.wall = now
        assert await here.again() == "good"
    async with asking(Mode.OCSP, terminals(platform), now, responder=url) as here:
        assert await here.settled() == "revocation-unreachable"


@pytest.mark.parametrize(("off", "reason"), [(-DAY, "ocsp-future"), (365 * DAY, "ocsp-stale")])
async def test_openssls_answers_with_our_clock_wrong(platform: Platform, off: timedelta, reason: str) -> None:
    async with (
        openssl_responder(platform.directory, "-nmin", "5") as url,
        asking(Mode.OCSP, terminals(platform), lambda: now() + off, responder=url) as here,
    ):
        assert await here.settled() == reason


async def test_openssls_list(platform: Platform) -> None:
    at = platform.directory
    (at / "crlnumber").write_text("01\n")
    make = ("ca", "-config", "openssl.cnf", "-keyfile", "root.key", "-cert", "root.pem", "-gencrl",
            "-crlhours", "2", "-out", "root.crl")  # fmt: skip
    openssl(at, *make)
    async with asking(Mode.CRL, terminals(platform), now, crls=[at / "root.crl"]) as here:
        assert await here.settled() == "good"
        await asyncio.to_thread(platform.revoke, "terminal")
        await asyncio.to_thread(openssl, at, *make)
        assert await here.again() == "revoked"
