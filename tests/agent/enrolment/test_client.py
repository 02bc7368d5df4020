"""The EST client against a server over TLS that is good, refusing, slow, lying or somebody else."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.enrolment.requests import request
from dongled.agent.enrolment.client import EstClient, EstServer
from dongled.agent.enrolment.est import MAX_ANSWER, EnrolmentError, Pending
from support.authority import Authority, new_key, pem, private_pem
from support.est import HANG, USER, Asked, Platform, Reply, certs_only, platform

CODE = secrets.token_urlsafe(12)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Platform]:
    with platform(tmp_path, CODE) as here:
        yield here


def server(served: Platform, code: str = CODE) -> EstServer:
    return EstServer(served.url, served.ca_file, USER, lambda: code)


async def enroll(server: EstServer, timeout: float = 20.0, again: bool = False) -> str:
    async with EstClient(server, timeout) as client:
        issued = await client.enroll(request(new_key()), "iot", again=again)
        return issued.subject.rfc4514_string()


async def refused(server: EstServer, timeout: float = 20.0) -> EnrolmentError:
    with pytest.raises(EnrolmentError) as caught:
        await enroll(server, timeout)
    assert caught.value.hint
    return caught.value


async def test_enrolling_again_and_the_authorities(served: Platform) -> None:
    assert await enroll(server(served)) == "CN=door"
    assert await enroll(server(served), again=True) == "CN=door"
    async with EstClient(server(served)) as client:
        assert await client.authorities(None) == [served.root]
    assert served.operations == ["iot/simpleenroll", "iot/simplereenroll", "cacerts"]
    # The code goes where it is needed, and nowhere else.
    assert [("authorization" in asked.headers) for asked in served.asked] == [True, True, False]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=401), "est-credentials"),
        (Reply(status=403), "est-forbidden"),
        (Reply(status=404), "est-no-service"),
        (Reply(status=400, body=b"no"), "est-refused"),
        (Reply(status=500), "est-failing"),
        (Reply(status=503), "est-failing"),
        (Reply(status=204), "est-refused"),
        (Reply(status=302, headers={"Location": "https://example.com/"}), "est-refused"),
        (Reply(status=202), "est-garbage"),
        (Reply(status=202, headers={"Retry-After": "later"}), "est-garbage"),
        (Reply(b"<html>", headers={"Content-Type": "text/html"}), "est-garbage"),
        (Reply(b"*" * 50, headers={"Content-Type": "application/pkcs7-mime"}), "est-garbage"),
        (Reply(b"A" * (MAX_ANSWER * 9), headers={"Content-Type": "application/pkcs7-mime"}), "est-too-large"),
    ],
)
async def test_each_refusal(served: Platform, reply: Reply, reason: str) -> None:
    served.fault = lambda asked: reply
    assert (await refused(server(served))).reason == reason


async def test_of_two_issued_certificates_none_is_taken_for_ours(served: Platform) -> None:
    """RFC 7030, 4.2.3: the issued one alone."""
    two = certs_only(served.root, served.root)
    served.fault = lambda asked: two
    assert (await refused(server(served))).reason == "est-garbage"


async def test_an_answer_without_end_is_not_read_to_its_end(served: Platform) -> None:
    endless = {"Content-Type": "application/pkcs7-mime", "Content-Length": str(10**12)}
    served.fault = lambda asked: Reply(b"A" * (MAX_ANSWER * 9), headers=endless)
    # It breaks off, which is not even noticed.
    assert (await refused(server(served))).reason == "est-too-large"


async def test_what_is_sent_packed_is_not_unpacked(served: Platform) -> None:
    good = certs_only(served.root)
    served.fault = lambda asked: Reply(good.body, headers={**good.headers, "Content-Encoding": "gzip"})
    async with EstClient(server(served)) as client:
        assert await client.authorities(None) == [served.root]
    assert served.asked[0].headers["accept-encoding"] == "identity"


async def test_being_told_to_wait(served: Platform) -> None:
    served.fault = lambda asked: Reply(status=202, headers={"Retry-After": "120"})
    error = await refused(server(served))
    assert isinstance(error, Pending)
    assert (error.reason, error.wait) == ("est-pending", 120.0)


async def test_a_server_that_never_answers(served: Platform) -> None:
    served.fault = lambda asked: HANG
    assert (await refused(server(served), timeout=0.3)).reason == "est-unreachable"


async def test_a_server_that_is_down_and_comes_back(served: Platform) -> None:
    served.stop()
    try:
        assert (await refused(server(served))).reason == "est-unreachable"
    finally:
        served.start()
    assert await enroll(server(served)) == "CN=door"


async def test_a_server_of_another_authority_is_told_nothing(served: Platform, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(pem(Authority.root().certificate))
    error = await refused(EstServer(served.url, other, USER, lambda: CODE))
    assert error.reason == "est-server-untrusted"
    # Nor one of another name.
    named = EstServer(served.url.replace("127.0.0.1", "localhost"), served.ca_file, USER, lambda: CODE)
    assert (await refused(named)).reason == "est-server-untrusted"
    assert served.asked == []


async def test_a_server_that_breaks_off(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem(Authority.root().certificate))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    down = EstServer(f"https://127.0.0.1:{port}", ca, USER, lambda: CODE)
    assert (await refused(down)).reason == "est-unreachable"


async def test_a_tls_client_certificate(served: Platform, tmp_path: Path) -> None:
    clients, key = Authority.root("clients"), new_key()
    served.require_client(clients.certificate, tmp_path)
    served.password = None
    assert (await refused(server(served))).reason == "est-unreachable"

    now = datetime.now(UTC)
    certificate, private = tmp_path / "client.pem", tmp_path / "client.key"
    leaf = clients.leaf(key, begin=now - timedelta(days=1), end=now + timedelta(days=1))
    certificate.write_bytes(pem(leaf))
    private.write_bytes(private_pem(key))
    # The root's own times are the tests' fixed ones, which TLS does not know.
    served._tls.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    mine = EstServer(served.url, served.ca_file, client=(certificate, private))
    assert await enroll(mine) == "CN=door"
    assert "authorization" not in served.asked[-1].headers


async def test_files_that_are_none(served: Platform, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for wrong in (
        EstServer(served.url, tmp_path / "missing"),
        EstServer(served.url, tmp_path / "no.pem"),
        EstServer(served.url, served.ca_file, client=(tmp_path / "no.pem", tmp_path / "no.pem")),
    ):
        assert (await refused(wrong)).reason == "est-files"


async def test_the_code_is_in_no_log_and_no_error(served: Platform, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(asked: Asked) -> Reply:
        told = asked.headers.get("authorization", "")
        return Reply(told.encode(), status=401, headers={"WWW-Authenticate": told, "X-Echo": CODE})

    served.fault = echo
    error = await refused(server(served))
    said = f"{error} {error.hint} {error!r} {server(served)!r}"
    assert caplog.records
    # httpcore writes a response's headers at DEBUG: what a server repeats, it repeats in vain.
    ours = [record.getMessage() for record in caplog.records]
    assert CODE not in said
    assert all(CODE not in text for text in ours if "receive_response_headers" not in text)
    assert not any("Basic " in text and "receive_response_headers" not in text for text in ours)
