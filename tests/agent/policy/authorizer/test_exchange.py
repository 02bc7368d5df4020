"""What a program answers, and everything that it might answer instead."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.policy.authorizer.questions import question
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import PolicyRefused, PolicyUndecided
from dongled.agent.policy.authorizer.exchange import Address, Exchange, Verdict
from dongled.agent.policy.authorizer.program import Program
from support.authority import TERMINAL
from support.authorizer import example, scripted, tls_files
from support.web import ok

pytestmark = pytest.mark.property("P3")
JSON = "Content-Type: application/json"


@asynccontextmanager
async def exchange(place: Address, timeout: float = 5) -> AsyncIterator[Exchange]:
    made = Exchange(place, timeout)
    try:
        yield made
    finally:
        await made.close()


def said(asked: dict[str, Any], **answer: Any) -> bytes:
    return ok(json.dumps({"id": asked["id"], "allow": True} | answer).encode(), JSON)


@pytest.mark.parametrize("behind", ["\n", "\r", " ", "\0", "\u00e9"])
async def test_a_bearer_token_with_something_behind_it_is_told_to_nobody(tmp_path: Path, behind: str) -> None:
    path = tmp_path / "socket"
    address = Address("http://authorizer/", socket=path, bearer=lambda: f"s3cr3t{behind}")
    async with scripted(path, said), exchange(address) as here:
        with pytest.raises(PolicyUndecided) as undecided:
            await here.ask(question())
    assert undecided.value.reason == "authorizer-bearer"
    assert "s3cr3t" not in f"{undecided.value}{undecided.value.hint}"


async def test_the_question_is_the_documented_one(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    def answer(asked: dict[str, Any]) -> bytes:
        heard.append(asked)
        return said(asked, streams=["camera"], reason="on duty", seconds=90)

    path = tmp_path / "socket"
    async with scripted(path, answer), exchange(Address("http://authorizer/", socket=path)) as here:
        assert await here.ask(question(evidence=("user-present",))) == Verdict(
            frozenset({"camera"}), "on duty", 90
        )
        assert await here.ask(question()) == Verdict(frozenset({"camera"}), "on duty", 90)
    first, second = heard
    assert len(first.pop("id")) == 32
    assert first == {
        "version": "dongled-authorizer/1",
        "meeting": "ward-3",
        "terminal": TERMINAL,
        "subject": "CN=nurse",
        "certificate": base64.b64encode(b"certificate").decode(),
        "sha256": "ab" * 32,
        "roles": ["viewer"],
        "assurance": "hardware",
        "streams": ["camera", "screen"],
        "evidence": ["user-present"],
    }
    assert second["id"] not in first.values()


@pytest.mark.parametrize(
    ("changes", "streams"),
    [({}, {"camera", "screen"}), ({"streams": []}, set()), ({"allow": False, "streams": ["camera"]}, set())],
)
async def test_what_is_allowed(tmp_path: Path, changes: dict[str, Any], streams: set[str]) -> None:
    path = tmp_path / "socket"
    async with (
        scripted(path, lambda asked: said(asked, **changes)),
        exchange(Address("http://authorizer/", socket=path)) as here,
    ):
        assert (await here.ask(question())).streams == streams


BAD: dict[str, tuple[Any, str]] = {
    "not JSON": (lambda asked: ok(b"yes", JSON), "authorizer-garbage"),
    "not JSON's type": (lambda asked: ok(said(asked).partition(b"\r\n\r\n")[2]), "authorizer-garbage"),
    "a list": (lambda asked: ok(b"[]", JSON), "authorizer-garbage"),
    "too deep": (lambda asked: ok(b"[" * 4000, JSON), "authorizer-garbage"),
    "a key twice": (
        lambda asked: ok(b'{"id": "%s", "allow": false, "allow": true}' % asked["id"].encode(), JSON),
        "authorizer-garbage",
    ),
    "no verdict": (lambda asked: ok(json.dumps({"id": asked["id"]}).encode(), JSON), "authorizer-garbage"),
    "an unknown key": (lambda asked: said(asked, admin=True), "authorizer-garbage"),
    "a word for yes": (lambda asked: said(asked, allow="yes"), "authorizer-garbage"),
    "a number for yes": (lambda asked: said(asked, allow=1), "authorizer-garbage"),
    "nothing for yes": (lambda asked: said(asked, allow=None), "authorizer-garbage"),
    "other streams": (lambda asked: said(asked, streams=["camera", "vault"]), "authorizer-garbage"),
    "no streams' names": (lambda asked: said(asked, streams=[1]), "authorizer-garbage"),
    "streams of text": (lambda asked: said(asked, streams="camera"), "authorizer-garbage"),
    "for ever": (lambda asked: said(asked, seconds=10**9), "authorizer-garbage"),
    "for no time": (lambda asked: said(asked, seconds=0), "authorizer-garbage"),
    "for true seconds": (lambda asked: said(asked, seconds=True), "authorizer-garbage"),
    "a forged line": (lambda asked: said(asked, reason="fine\nDec 1 granted"), "authorizer-garbage"),
    "a long story": (lambda asked: said(asked, reason="x" * 201), "authorizer-garbage"),
    "too much": (lambda asked: said(asked, reason="x" * 9000), "authorizer-garbage"),
    "another's answer": (lambda asked: said(asked, id="0" * 32), "authorizer-other-answer"),
    "no id": (lambda asked: said(asked, id=None), "authorizer-other-answer"),
    "an error": (lambda asked: ok(b"{}", JSON, status="500 Oops"), "authorizer-status"),
    "a redirect": (
        lambda asked: ok(b"", "Location: http://elsewhere/", status="307 Go"),
        "authorizer-status",
    ),
    "created": (
        lambda asked: said(asked).replace(b"200 OK", b"201 Created"),
        "authorizer-status",
    ),
    "no HTTP": (lambda asked: b"\x00\x01\x02\r\n\r\n", "authorizer-unreachable"),
    "half of it": (lambda asked: said(asked)[:-5], "authorizer-unreachable"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_it_might_answer_instead_grants_nothing(tmp_path: Path, what: str) -> None:
    answer, reason = BAD[what]
    path = tmp_path / "socket"
    async with scripted(path, answer), exchange(Address("http://authorizer/", socket=path)) as here:
        with pytest.raises(PolicyUndecided) as caught:
            await here.ask(question())
    assert caught.value.reason == reason


async def test_slow_and_endless_and_absent(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    place = Address("http://authorizer/", socket=path)
    async with scripted(path, lambda asked: None), exchange(place, timeout=0.2) as here:
        with pytest.raises(PolicyUndecided, match=r"no answer within 0\.2 s"):
            await here.ask(question())
    async with exchange(place) as here:
        with pytest.raises(PolicyUndecided) as caught:
            await here.ask(question())
        assert caught.value.reason == "authorizer-unreachable"


async def test_the_example_over_a_unix_socket(tmp_path: Path) -> None:
    allow, path = tmp_path / "allowed.json", tmp_path / "socket"
    allow.write_text(json.dumps({TERMINAL: ["camera"]}))
    with example(allow, "--socket", path, "--hardware"):
        async with exchange(Address("http://authorizer/", socket=path)) as here:
            assert (await here.ask(question())).streams == {"camera"}
            assert (await here.ask(question(assurance="software"))).reason == "its keys are not in hardware"
            assert not (await here.ask(question(streams=("screen",)))).streams
            allow.write_text("{}")
            assert (await here.ask(question())).reason == "not in the list"
            allow.write_text("nonsense")
            with pytest.raises(PolicyUndecided, match="HTTP status 500"):
                await here.ask(question())


async def test_the_example_over_https_knows_its_clients_and_is_known(tmp_path: Path) -> None:
    allow, token = tmp_path / "allowed.json", tmp_path / "token"
    allow.write_text(json.dumps({TERMINAL: ["camera"]}))
    token.write_text("correct horse")
    await asyncio.to_thread(tls_files, tmp_path)
    (tmp_path / "other").mkdir()
    await asyncio.to_thread(tls_files, tmp_path / "other")
    ca, client = tmp_path / "ca.pem", (tmp_path / "client.pem", tmp_path / "client.key")
    how: list[str | Path] = [
        "--listen",
        "127.0.0.1:0",
        "--certificate",
        tmp_path / "server.pem",
        "--key",
        tmp_path / "server.key",
    ]
    with example(allow, *how, "--client-ca", ca, "--bearer-file", token) as url:

        async def answer(**changes: Any) -> frozenset[str]:
            good: dict[str, Any] = {"authorities": ca, "client": client, "bearer": token.read_text}
            async with exchange(Address(url, **(good | changes))) as here:
                return (await here.ask(question())).streams

        assert await answer() == {"camera"}
        other = tmp_path / "other"
        for changes, reason in (
            ({"authorities": other / "ca.pem"}, "authorizer-unreachable"),
            ({"client": None}, "authorizer-unreachable"),
            ({"client": (other / "client.pem", other / "client.key")}, "authorizer-unreachable"),
            ({"bearer": lambda: "guess"}, "authorizer-status"),
            ({"bearer": None}, "authorizer-status"),
        ):
            with pytest.raises(PolicyUndecided) as caught:
                await answer(**changes)
            assert caught.value.reason == reason
            assert "correct horse" not in str(caught.value)
        with pytest.raises(AgentError, match="cannot be used"):
            Exchange(Address(url, authorities=allow), 5)


class Steady:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Asked:
    """A program's answers as the policy sees them, each step when something was learned."""

    def __init__(self, path: Path) -> None:
        self.steady = Steady()
        exchange = Exchange(Address("http://authorizer/", socket=path), 5)
        self.program = Program(exchange, remember=300, refresh=60, steady=self.steady)
        self._learned = asyncio.Event()
        self.program.on_learned(self._learned.set)

    def verdict(self, stream: str = "camera", **changes: Any) -> str:
        try:
            return self.program.decide(question(**changes), stream)
        except PolicyRefused as error:
            return error.reason

    async def learned(self, **changes: Any) -> str:
        self._learned.clear()
        self.verdict(**changes)
        async with asyncio.timeout(20):
            await self._learned.wait()
        return self.verdict(**changes)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.program.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_is_asked_again_and_dead_it_grants_for_so_long_and_heals_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    here = Asked(path)
    async with here.running():
        assert here.verdict() == "authorizer-pending"
        async with scripted(path, lambda asked: said(asked, streams=["camera"], reason="on duty")):
            assert await here.learned() == "the authorizer allowed it: on duty"
            assert here.verdict("screen") == "authorizer-refused"
            # Another certificate is another question.
            assert here.verdict(leaf="cd" * 32) == "authorizer-pending"
        here.steady.time += 61
        assert await here.learned() == "the authorizer allowed it: on duty"
        here.steady.time += 241
        assert await here.learned() == "authorizer-unreachable"
        async with scripted(path, lambda asked: said(asked, allow=False)):
            here.steady.time += 31
            assert await here.learned() == "authorizer-refused"
        async with scripted(path, lambda asked: said(asked)):
            here.steady.time += 61
            assert await here.learned() == "the authorizer allowed it"


async def test_it_may_say_how_long_its_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    here = Asked(path)
    async with here.running(), scripted(path, lambda asked: said(asked, seconds=10)):
        assert await here.learned() == "the authorizer allowed it"
        here.steady.time += 9
        assert await here.learned() == "the authorizer allowed it"
        # Overslept: what ran out is gone first, and asked for again.
        here.steady.time += 11
        assert await here.learned() == "authorizer-pending"
        assert await here.learned() == "the authorizer allowed it"


async def test_after_a_defect_what_was_being_asked_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    here = Asked(path)
    ask = here.program._exchange.ask

    async def defect(about: object) -> Verdict:
        raise RuntimeError("a defect")

    monkeypatch.setattr(here.program._exchange, "ask", defect)
    here.verdict()
    with pytest.raises(ExceptionGroup):
        await here.program.run()
    monkeypatch.setattr(here.program._exchange, "ask", ask)
    async with scripted(path, said), here.running():
        assert await here.learned() == "the authorizer allowed it"


async def test_its_word_ends_even_if_nobody_looks_after_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    here = Asked(path)
    async with scripted(path, said), here.running():
        assert await here.learned() == "the authorizer allowed it"
    here.steady.time += 299
    assert here.verdict() == "the authorizer allowed it"
    here.steady.time += 1
    assert here.verdict() == "authorizer-pending"
