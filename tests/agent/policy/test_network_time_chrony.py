"""Debian's chrony vouches for the time, by NTS or not, in the tests' own network."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.chrony import measured
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.network_time import LASTS, NetworkTime, ask
from support.chrony import Chronyd, NtsServer, asked, authority, chronyd, question

pytestmark = pytest.mark.property("P3")

REQUIRE = "authselectmode require"


@pytest.fixture(scope="module")
def server() -> Iterator[NtsServer]:
    # Not pytest's own, whose names are long: a Unix socket's is at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="dongled-nts-", ignore_cleanup_errors=True) as directory:
        made = NtsServer(Path(directory))
        with made.running():
            yield made


class Terminal:
    """A clock for which a client's chronyd is asked."""

    def __init__(self, path: Path) -> None:
        self.steady = 0.0
        self.path = path
        self.clock = TrustedClock("nts", steady=lambda: self.steady)
        self.time = NetworkTime(self.clock, ask=partial(ask, path))

    async def asks(self) -> str:
        """Once; why the time is not trusted then."""
        await self.time.look()
        refusal = self.clock.refusal()
        return "" if refusal is None else refusal.reason

    async def until(self, wanted: str) -> None:
        """It asks until the time is not trusted for this reason; never is it before."""
        async with asyncio.timeout(60):
            while (reason := await self.asks()) != wanted:
                assert reason != ""
                await asyncio.sleep(0.05)


@contextmanager
def terminal(*configuration: str) -> Iterator[tuple[Terminal, Chronyd]]:
    with tempfile.TemporaryDirectory(prefix="dongled-nts-", ignore_cleanup_errors=True) as directory:
        path = Path(directory) / "time.sock"
        with (
            chronyd(Path(directory) / "client", "port 0", *configuration) as client,
            asked(path, *question(client)),
        ):
            yield Terminal(path), client


async def test_an_authenticated_time_is_trusted_and_its_loss_is_borne_for_an_hour(server: NtsServer) -> None:
    with terminal(server.nts, f"ntstrustedcerts {server.authority}", REQUIRE) as (here, client):
        await here.until("")
        here.clock.now()
        with client.hanging(), pytest.raises(PolicyRefused) as caught:
            await ask(here.path, patience=0.1)
        assert caught.value.reason == "time-nts-unavailable"
        client.process.kill()
        client.process.wait()
        assert await here.asks() == ""
        here.steady = LASTS
        assert await here.asks() == "time-nts-unavailable"


async def test_a_terminal_that_starts_while_the_network_is_away_trusts_what_chrony_heard_last() -> None:
    with tempfile.TemporaryDirectory(prefix="dongled-nts-", ignore_cleanup_errors=True) as directory:
        own = NtsServer(Path(directory))
        with ExitStack() as serving:
            serving.enter_context(own.running())
            with terminal(own.nts, f"ntstrustedcerts {own.authority}", REQUIRE) as (here, _):
                await here.until("")
                serving.close()
                async with asyncio.timeout(60):
                    while "^,*," in (said := await ask(here.path)):
                        assert "^,?," not in said
                        await asyncio.sleep(0.05)
                assert await Terminal(here.path).asks() == ""


async def test_the_same_server_without_nts_is_not(server: NtsServer) -> None:
    with terminal(server.plain) as (here, _):
        await here.until("time-nts-unauthenticated")


async def test_chrony_leaves_it_out_where_it_is_told_to_require_nts(server: NtsServer) -> None:
    with terminal(server.plain, REQUIRE) as (here, _):
        async with asyncio.timeout(60):
            # Four answers, where three were enough.
            while not re.search(r"^\^,\?,.*,(17|37|77|177|377),", said := await ask(here.path), re.MULTILINE):
                assert "^,*," not in said
                await asyncio.sleep(0.05)
        await here.until("time-nts-unsynchronised")


async def test_nor_one_that_another_authority_certified(server: NtsServer, tmp_path: Path) -> None:
    stranger = authority(tmp_path, "stranger")
    with terminal(server.nts, f"ntstrustedcerts {stranger}") as (here, client):
        async with asyncio.timeout(60):
            while "TLS handshake" not in client.log.read_text():
                assert await here.asks() != ""
                await asyncio.sleep(0.05)
        await here.until("time-nts-unsynchronised")


@pytest.mark.parametrize(("offset", "reason"), [(600, "time-differs"), (-600, "time-differs"), (-60, "")])
async def test_a_clock_that_is_wrong_is_known_to_be(server: NtsServer, offset: int, reason: str) -> None:
    """``offset``: how far the server's time is ahead of what it says, in seconds."""
    client = (f"{server.nts} offset {offset}", f"ntstrustedcerts {server.authority}", REQUIRE)
    with terminal(*client) as (here, _):
        await here.until(reason)


async def test_whoever_may_not_ask_chrony_learns_nothing(tmp_path: Path) -> None:
    for name, command in {"absent": "/usr/bin/absent", "refused": "false", "mute": "true"}.items():
        with asked(tmp_path / name, command):
            with pytest.raises(PolicyRefused) as caught:
                measured(await ask(tmp_path / name))
            assert caught.value.reason == "time-nts-unavailable"
