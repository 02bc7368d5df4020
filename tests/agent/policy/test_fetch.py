"""Asking in the background: of servers that answer, lie, hang and die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from agent.policy.asking import Asking, asking
from dongled.agent import tasks
from dongled.agent.policy import fetch
from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.download import Downloader, Unchanged
from dongled.agent.policy.revocation import Answer, Mode, Pair, Status
from dongled.agent.tasks import keep_going
from support.authority import DAY, NOW, Authority
from support.platform import HOUR, crl, distribution, ocsp_answer
from support.web import Web, ok, web

pytestmark = pytest.mark.property("P3")

ROOT = Authority.root(end=NOW + 365 * DAY)
LEAF = ROOT.leaf()
PATH = [LEAF, ROOT.certificate]


@pytest.fixture
async def served() -> AsyncIterator[Web]:
    async with web() as server:
        yield server


def good(**how: Any) -> bytes:
    return ok(ocsp_answer(ROOT, LEAF, **how), "Content-Type: application/ocsp-response")


# --- OCSP over HTTP ------------------------------------------------------------------------------------


async def test_pending_at_once_and_good_soon(served: Web) -> None:
    served.answer = lambda head: good()
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        assert here.verdict() == "revocation-pending"
        assert await here.settled() == "good"
        assert served.heads[0].startswith(b"POST / HTTP/1.1\r\n")
        assert here.clock.floor == NOW - HOUR


async def test_the_responder_that_the_certificate_names(served: Web) -> None:
    access = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(served.url)
    )
    leaf = ROOT.leaf(extra=[(x509.AuthorityInformationAccess([access]), False)])
    served.answer = lambda head: ok(ocsp_answer(ROOT, leaf))
    async with asking(Mode.OCSP, [leaf, ROOT.certificate]) as here:
        assert await here.settled() == "good"


async def test_nobody_to_ask() -> None:
    async with asking(Mode.OCSP, PATH) as here:
        assert await here.settled() == "revocation-no-source"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (ok(b"<html>login</html>"), "ocsp-garbage"),
        (ok(b"", status="500 Oops"), "revocation-unreachable"),
        (ok(b"", "Location: file:///etc/passwd", status="302 Found"), "revocation-unreachable"),
        (ok(b"", status="304 Not Modified"), "revocation-unreachable"),
        (b"SMTP\r\n\r\n", "revocation-unreachable"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" + b"x" * 60000,
            "revocation-unreachable",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 60000, "revocation-unreachable"),
        (b"", "revocation-unreachable"),
        (None, "revocation-unreachable"),
        (good(nonce=b"not ours" * 4), "ocsp-nonce"),
        (good(this_update=NOW - 2 * DAY, next_update=None), "ocsp-stale"),
    ],
)
async def test_a_responder_that_lies_or_hangs(served: Web, response: bytes | None, reason: str) -> None:
    served.answer = lambda head: response
    async with asking(Mode.OCSP, PATH, responder=served.url, timeout=0.5) as here:
        assert await here.settled() == reason


async def test_a_redirect_is_not_followed(served: Web) -> None:
    served.answer = lambda head: ok(b"", f"Location: {served.url}elsewhere", status="307 Go on")
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        assert await here.settled() == "revocation-unreachable"
        assert len(served.heads) == 1


async def test_a_slow_drip_does_not_stretch_the_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except (ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Downloader(0.3) as downloader:
        with pytest.raises(PolicyRefused) as caught:
            await downloader.post(url, b"", "x/y", 1000)
    assert "within" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://",
        "http://user:word@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/" + "x" * 600,
        "http://127.0.0.1/\n",
        "//127.0.0.1/",
        "http://127.0.0.1:1/",
    ],
)
async def test_places_that_are_not_asked(url: str) -> None:
    async with Downloader() as downloader:
        with pytest.raises(PolicyRefused) as caught:
            await downloader.get(url, None, 100)
    assert caught.value.reason == "revocation-unreachable"


async def test_more_than_was_bargained_for_and_a_user_in_the_address(served: Web) -> None:
    served.answer = lambda head: ok(b"x" * 101)
    async with Downloader() as downloader:
        with pytest.raises(PolicyRefused, match="more than 100 bytes"):
            await downloader.get(served.url, None, 100)
        assert await downloader.get(served.url, None, 101) == (b"x" * 101, None)
        with pytest.raises(PolicyRefused, match="a user in it"):
            await downloader.get(served.url.replace("//", "//user:word@"), None, 101)


async def test_a_dead_responder_and_one_that_comes_back(served: Web) -> None:
    served.answer = lambda head: ok(b"", status="503 Later")
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        assert await here.settled() == "revocation-unreachable"
        asked = len(served.heads)
        here.verdict()
        served.answer = lambda head: good()
        assert await here.again(fetch.RETRY_FIRST) == "good"
        assert len(served.heads) == asked + 1


async def test_a_good_answer_survives_an_outage_until_it_runs_out(served: Web) -> None:
    served.answer = lambda head: good()
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        assert await here.settled() == "good"
        served.answer = lambda head: ok(b"", status="503 Later")
        assert await here.again() == "good"
        here.wall = lambda: NOW + 2 * HOUR
        assert here.verdict() == "revocation-unreachable"


async def test_revoked_in_mid_meeting_and_an_old_answer_replayed(served: Web) -> None:
    old = good()
    served.answer = lambda head: old
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        assert await here.settled() == "good"
        served.answer = lambda head: good(status=ocsp.OCSPCertStatus.REVOKED, this_update=NOW)
        assert await here.again(120.0) == "revoked"
        served.answer = lambda head: old
        assert await here.again(120.0) == "revoked"


async def test_a_revoked_one_whose_answer_ran_out_is_not_asked_about_all_the_time(served: Web) -> None:
    status = ocsp.OCSPCertStatus.REVOKED
    served.answer = lambda head: good(status=status, this_update=NOW - 9 * DAY, next_update=NOW - DAY)
    async with asking(Mode.OCSP, PATH, responder=served.url, refresh=120.0) as here:
        assert await here.settled() == "revoked"
        (watched,) = here.fetcher._watched.values()
        assert watched.due - here.steady() >= 90


async def test_it_is_asked_again_before_the_answer_runs_out_and_not_all_the_time(served: Web) -> None:
    served.answer = lambda head: good(next_update=NOW + timedelta(seconds=50))
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        await here.settled()
        for _ in range(5):
            here.verdict()
            await asyncio.sleep(0.01)
        assert len(served.heads) == 1
        assert await here.again(40.0) == "good"
        assert len(served.heads) == 2


async def test_who_is_not_asked_about_any_more_is_left_alone(served: Web) -> None:
    served.answer = lambda head: good()
    async with asking(Mode.OCSP, PATH, responder=served.url) as here:
        await here.settled()
        here.steady.time += fetch.IDLE + 121
        here.path = [ROOT.leaf(), ROOT.certificate]
        await here.settled()
        assert len(served.heads) == 2


async def test_a_slow_certificate_does_not_hold_up_another(served: Web) -> None:
    slow = ROOT.leaf()
    requests = 0

    def answer(head: bytes) -> bytes | None:
        nonlocal requests
        requests += 1
        return None if requests == 1 else good()

    served.answer = answer
    async with asking(Mode.OCSP, [slow, ROOT.certificate], responder=served.url) as here:
        here.verdict()
        await served.arrived.wait()
        here.path = PATH
        assert await here.settled() == "good"


# --- CRLs ----------------------------------------------------------------------------------------------


async def test_a_list_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "root.crl"
    path.write_bytes(crl(ROOT))
    other = tmp_path / "other.crl"
    other.write_bytes(crl(Authority.root("another")))
    async with asking(Mode.CRL, PATH, crls=[other, path]) as here:
        assert await here.settled() == "good"
        path.write_bytes(crl(ROOT, [LEAF], this_update=NOW))
        assert await here.again() == "revoked"
        path.write_bytes(crl(ROOT))
        assert await here.again() == "revoked"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "crl-garbage"),
        (crl(ROOT, this_update=NOW - 2 * DAY), "crl-stale"),
        (None, "revocation-unreachable"),
    ],
)
async def test_a_bad_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "root.crl").write_bytes(content)
    async with asking(Mode.CRL, PATH, crls=[tmp_path / "root.crl"]) as here:
        assert await here.settled() == reason


async def test_the_list_that_the_certificate_names_is_fetched_again_only_when_it_changed(served: Web) -> None:
    leaf = ROOT.leaf(extra=[(distribution(f"{served.url}root.crl"), False)])
    content = crl(ROOT)

    def answer(head: bytes) -> bytes:
        if b'if-none-match: "1"' in head.lower():
            return ok(b"", status="304 Not Modified")
        return ok(content, 'ETag: "1"')

    served.answer = answer
    async with asking(Mode.CRL, [leaf, ROOT.certificate]) as here:
        assert await here.settled() == "good"
        assert await here.again() == "good"
        assert b"GET /root.crl" in served.heads[1]
        assert b"if-none-match" in served.heads[1].lower()
        content = crl(ROOT, [leaf], this_update=NOW)
        served.answer = lambda head: ok(content, 'ETag: "2"')
        assert await here.again() == "revoked"


@pytest.mark.parametrize("tag", ['"caf\xe9"', '"' + 4000 * "x" + '"'])
async def test_a_tag_that_cannot_be_sent_back_is_forgotten(served: Web, tag: str) -> None:
    leaf = ROOT.leaf(extra=[(distribution(f"{served.url}root.crl"), False)])
    served.answer = lambda head: ok(crl(ROOT), f"ETag: {tag}")
    async with asking(Mode.CRL, [leaf, ROOT.certificate]) as here:
        assert await here.settled() == "good"
        served.answer = lambda head: ok(crl(ROOT, [leaf], this_update=NOW))
        assert await here.again() == "revoked"
        assert b"if-none-match" not in served.heads[1].lower()


async def test_unchanged_is_no_answer_to_who_has_nothing(served: Web) -> None:
    served.answer = lambda head: ok(b"", status="304 Not Modified")
    async with asking(Mode.CRL, PATH, crls=[f"{served.url}root.crl"]) as here:
        assert await here.settled() == "revocation-unreachable"
    async with Downloader() as downloader:
        with pytest.raises(Unchanged):
            await downloader.get(served.url, '"1"', 10)


async def test_an_older_list_is_no_news_about_anybody(served: Web) -> None:
    other = ROOT.leaf()
    served.answer = lambda head: ok(crl(ROOT, [other], this_update=NOW))
    async with asking(Mode.CRL, PATH, crls=[served.url]) as here:
        assert await here.settled() == "good"
        served.answer = lambda head: ok(crl(ROOT))
        here.path = [other, ROOT.certificate]
        assert await here.settled() == "crl-replayed"


async def test_either_is_content_with_one(served: Web, tmp_path: Path) -> None:
    served.answer = lambda head: ok(b"", status="503 Later")
    path = tmp_path / "root.crl"
    path.write_bytes(crl(ROOT))
    async with asking(Mode.EITHER, PATH, responder=served.url, crls=[path]) as here:
        await here.until("good")
        path.write_bytes(crl(ROOT, [LEAF], this_update=NOW))
        served.answer = lambda head: good(this_update=NOW)
        here.steady.time += 1000
        await here.until("revoked")


async def test_a_defect_costs_a_moment_and_nobody_is_forgotten(
    served: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.answer = lambda head: good()
    here = Asking(Mode.OCSP, PATH, responder=served.url)
    asked, crashed = here.fetcher._ocsp, False

    async def crash(pair: Pair, downloader: Downloader) -> Answer:
        nonlocal crashed
        if not crashed:
            crashed = True
            raise RuntimeError("a defect")
        return await asked(pair, downloader)

    monkeypatch.setattr(here.fetcher, "_ocsp", crash)
    monkeypatch.setattr(tasks, "AGAIN_FIRST", 0.01)
    assert here.verdict() == "revocation-pending"
    task = asyncio.create_task(keep_going("asking", here.fetcher.run))
    await here.until("good")
    assert crashed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("late", ["download", "reading"])
async def test_an_older_list_that_was_asked_for_before_does_not_take_the_place_of_a_newer(
    monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """Certificates are asked about together, and who answers says when."""
    leaf, other = ROOT.leaf(), ROOT.leaf()
    lists = [crl(ROOT), crl(ROOT, [leaf, other], this_update=NOW)]
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def wait_for(data: bytes) -> None:
        if data == lists[0]:
            begun.set()
            await go_on.wait()

    class Server:
        async def get(self, *_: object) -> tuple[bytes, None]:
            data = lists[begun.is_set()]
            if late == "download":
                await wait_for(data)
            return data, None

    async def aside(work: Callable[..., Any], data: bytes, *rest: Any) -> Any:
        if late == "reading":
            await wait_for(data)
        return work(data, *rest)

    monkeypatch.setattr(asyncio, "to_thread", aside)
    fetcher = Asking(Mode.CRL, PATH, crls=["http://x/"]).fetcher
    server = cast(Downloader, Server())
    first = asyncio.create_task(fetcher._crl(Pair(leaf, ROOT.certificate), server))
    async with asyncio.timeout(20):
        await begun.wait()
        assert (await fetcher._crl(Pair(other, ROOT.certificate), server)).status is Status.REVOKED
        go_on.set()
        with pytest.raises(PolicyRefused) as refused:
            await first
    assert refused.value.reason == "crl-replayed"
    (kept,) = fetcher._crls.values()
    assert kept.data == lists[1]
