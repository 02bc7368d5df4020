"""The Janus that the demo and the tests run: what it offers, what it hides, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from dongled.agent.errors import AgentError
from support.janus import Installation, JanusServer


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ask(url: str, **request: Any) -> dict[str, Any]:
    async with connect(url, subprotocols=[Subprotocol("janus-protocol")], proxy=None) as socket:
        await socket.send(json.dumps({"transaction": "t", **request}))
        return dict(json.loads(await socket.recv()))


async def test_it_offers_two_plugins_on_one_websocket_and_stops(tmp_path: Path) -> None:
    async with JanusServer(tmp_path / "janus") as janus:
        info = await ask(janus.url, janus="info")
        pid = janus.pid
        assert is_running(pid)
    assert set(info["plugins"]) == {"janus.plugin.videoroom", "janus.plugin.textroom"}
    assert set(info["transports"]) == {"janus.transport.websockets"}
    assert info["local-ip"] == janus.address
    assert not is_running(pid)


def test_it_comes_back_on_the_same_port(tmp_path: Path) -> None:
    janus = JanusServer(tmp_path)
    with janus:
        url, pid = janus.url, janus.pid
    with janus:
        assert janus.url == url
        assert janus.pid != pid


async def test_a_client_without_the_api_secret_is_refused(tmp_path: Path) -> None:
    async with JanusServer(tmp_path, api_secret="right") as janus:
        refused = await ask(janus.url, janus="create", apisecret="wrong")
        served = await ask(janus.url, janus="create", apisecret="right")
    assert refused["error"]["code"] == 403
    assert served["janus"] == "success"


def test_its_configuration_is_private(tmp_path: Path) -> None:
    with JanusServer(tmp_path / "janus", api_secret="secret") as janus:
        modes = {stat.S_IMODE(path.stat().st_mode) for path in janus.folder.glob("*.jcfg")}
        assert stat.S_IMODE(janus.folder.stat().st_mode) == 0o700
    assert modes == {0o600}


def test_a_server_that_cannot_start_says_where_to_look_and_is_gone(tmp_path: Path) -> None:
    with JanusServer(tmp_path / "first") as first:
        second = JanusServer(tmp_path / "second", port=first.port)
        with pytest.raises(AgentError) as caught, second:
            pass
    assert caught.value.reason == "janus-start"
    assert str(second.log) in caught.value.hint
    assert "No WebSockets server started" in second.log.read_text()


def test_a_named_program_that_is_none_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANUS", "/nonexistent/janus")
    with pytest.raises(AgentError) as caught:
        Installation.find()
    assert caught.value.reason == "janus-missing"
