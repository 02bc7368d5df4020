"""Who may ask for metrics, and what a bad client costs."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.files import TEXT, write
from dongled.agent.errors import AgentError
from dongled.agent.metrics import server as module
from dongled.agent.metrics.server import MAX_CLIENTS, MetricsServer
from dongled.config.api import ConfigError, load

GOOD = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9469\r\nAccept: text/plain\r\n\r\n"


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    server = MetricsServer(str(tmp_path / "metrics.sock"), lambda: b"figure 1\n")
    await server.start()
    yield tmp_path / "metrics.sock"
    await server.close()
    assert not (tmp_path / "metrics.sock").exists()


async def ask(path: Path, head: str | bytes = GOOD) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(head if isinstance(head, bytes) else head.encode())
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_prometheus_gets_its_figures(path: Path) -> None:
    head, body = (await ask(path)).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert b"Content-Length: 9" in head
    assert body == b"figure 1\n"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GOOD.replace("GET", "HEAD"), b"200"),
        (GOOD.replace("/metrics", "/metrics?name[]=x"), b"200"),
        (GOOD.replace("127.0.0.1:9469", "localhost"), b"200"),
        (GOOD.replace("127.0.0.1:9469", "[::1]:9469"), b"200"),
        (GOOD.replace("GET", "POST"), b"405"),
        (GOOD.replace("/metrics", "/"), b"404"),
        (GOOD.replace("/metrics", "/metrics/../../etc/passwd"), b"404"),
        # A page whose host's name was made to lead here.
        (GOOD.replace("127.0.0.1:9469", "evil.example.com:9469"), b"421"),
        (GOOD.replace("127.0.0.1:9469", "192.0.2.1"), b"421"),
        (GOOD.replace("Host: 127.0.0.1:9469\r\n", ""), b"421"),
        (GOOD.replace("Accept: text/plain", "host: evil.example.com"), b"421"),
        ("\r\n\r\n", b"421"),
        (GOOD.replace("/metrics", "http://[/metrics"), b"404"),
    ],
)
async def test_anything_else_is_refused(path: Path, head: str, status: bytes) -> None:
    answer = await ask(path, head)
    assert answer.split(b" ")[1] == status
    assert (b"figure" in answer) == (status == b"200" and not head.startswith("HEAD"))


async def test_a_head_without_an_end_is_cut_off(path: Path) -> None:
    assert await ask(path, b"GET /metrics HTTP/1.1\r\n" + b"x" * 100_000) == b""


async def test_more_than_so_many_at_once_are_hung_up_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 600)
    silent = [await asyncio.open_unix_connection(path) for _ in range(MAX_CLIENTS)]
    for _ in range(3):
        reader, writer = await asyncio.open_unix_connection(path)
        # Before it has said anything.
        assert await asyncio.wait_for(reader.read(), 60) == b""
        assert not any(reader.at_eof() for reader, _ in silent)
        writer.close()
    for _, writer in silent:
        writer.close()
    while not await answered(path):
        pass


async def answered(path: Path) -> bool:
    try:
        return b"200 OK" in await ask(path)
    except ConnectionError:
        return False


async def test_who_says_nothing_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    reader, writer = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_who_takes_no_answer_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    server = MetricsServer(str(tmp_path / "metrics.sock"), lambda: bytes(4_000_000))
    await server.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "metrics.sock"))
        client.send(GOOD.encode())
        hung_up = select.poll()
        hung_up.register(client, select.POLLRDHUP)
        assert await asyncio.to_thread(hung_up.poll, 20_000)
    await server.close()


async def test_a_socket_that_is_listened_on_is_left_alone(path: Path) -> None:
    with pytest.raises(AgentError) as refused:
        await MetricsServer(str(path), lambda: b"").start()
    assert refused.value.reason == "metrics-listen"
    assert "another process listens there" in str(refused.value)
    assert "free path" in refused.value.hint
    assert b"figure 1" in await ask(path)


async def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = MetricsServer(str(path), lambda: b"figure 1\n")
    await server.start()
    assert b"figure 1" in await ask(path)
    await server.close()


async def test_tcp_on_loopback_and_a_taken_port(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    with pytest.raises(AgentError) as refused:
        await MetricsServer(f"127.0.0.1:{port}", lambda: b"").start()
    assert refused.value.reason == "metrics-listen"
    taken.close()
    await taken.wait_closed()
    server = MetricsServer(f"127.0.0.1:{port}", lambda: b"figure 1\n")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GOOD.encode())
    assert b"figure 1" in await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await server.close()


@pytest.mark.parametrize(
    ("listen", "good"),
    [
        ("127.0.0.1:9469", True),
        ("[::1]:9469", True),
        ("/run/dongled/metrics.sock", True),
        ("0.0.0.0:9469", False),
        ("[::]:9469", False),
        ("192.0.2.1:9469", False),
        ("localhost:9469", False),
        ("127.0.0.1", False),
        ("127.0.0.1:0", False),
        ("127.0.0.1:99999", False),
        ("user@127.0.0.1:9469", False),
        ("127.0.0.1:9469/metrics", False),
        ("metrics.sock", False),
        ("", False),
    ],
)
def test_it_listens_on_this_machine_alone(tmp_path: Path, listen: str, good: bool) -> None:
    path = write(tmp_path, TEXT + f'\n[metrics]\nlisten = "{listen}"\n')
    if good:
        assert load(path, {}, {}).metrics.listen == listen
    else:
        with pytest.raises(ConfigError, match=r"metrics\.listen"):
            load(path, {}, {})


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert load(write(tmp_path), {}, {}).metrics.listen is None
