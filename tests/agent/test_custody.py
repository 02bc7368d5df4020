"""The token over time: what a daemon waits for, what it does not start with, and that a loss is told once."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from dongled.agent import custody as custody_module
from dongled.agent.custody import Custody
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import Policy
from dongled.agent.terminal import Terminal
from dongled.config.api import ConfigError
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import OpenedToken, SplitTokenError
from dongled.tokens.quirks import Watch
from dongled.tokens.readers import Readers
from dongled.tokens.state import TokenState


class ScriptedToken:
    """A token that its module is asked about, and that says so when it is gone; all of a terminal's keys."""

    uri = "pkcs11:serial=1"
    slot = "slot"

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.closed = False
        self.gone: TokenError | None = None

    @property
    def parts(self) -> dict[KeyRole, ScriptedToken]:
        return {KeyRole.IDENTITY: self}

    def lost(self, role: KeyRole, error: TokenError) -> TokenError:
        return error

    async def check_there(self) -> None:
        if self.gone is not None:
            raise self.gone

    async def close(self) -> None:
        self.closed = True


class ScriptedTokens(ScriptedToken):
    """The identity's token, and another one for the data key."""

    def __init__(self) -> None:
        super().__init__(Watch.SLOTS)
        self.other = ScriptedToken(Watch.SLOTS)

    @property
    def parts(self) -> dict[KeyRole, ScriptedToken]:
        return {KeyRole.IDENTITY: self, KeyRole.DATA: self.other}

    def lost(self, role: KeyRole, error: TokenError) -> TokenError:
        return SplitTokenError({role: error})


class Bench:
    """What each opening comes to: a token or an error, the last one again and again."""

    def __init__(self, *script: ScriptedToken | TokenError | AgentError) -> None:
        self.script = list(script)
        self.custody = Custody(self.open, self.make, Readers("libno-such.so.1"))

    async def open(self) -> OpenedToken:
        came = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(came, Exception):
            raise came
        return cast(OpenedToken, came)

    @staticmethod
    def make(keys: OpenedToken) -> Terminal:
        return Terminal("urn:uuid:x", keys, [b"leaf"], [], cast(Policy, None))


async def test_a_file_that_is_missing_for_a_while_ends_no_daemon_that_runs() -> None:
    """It is read again with each opening; at the start it is the configuration's fault."""
    token = ScriptedToken(Watch.SLOTS)
    bench = Bench(TokenError("token-absent", "no"), token)
    missing = ConfigError("file-unreadable", "people.json: no", "make it readable")
    make, tries = bench.make, 0

    def sometimes(keys: OpenedToken) -> Terminal:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise missing
        return make(keys)

    custody = Custody(bench.open, sometimes, Readers("libno-such.so.1"))
    await custody.start()
    running = asyncio.create_task(custody.run())
    try:
        async with asyncio.timeout(30):
            await asyncio.wait(
                {running, asyncio.ensure_future(custody.ready())}, return_when="FIRST_COMPLETED"
            )
        assert custody.state is TokenState.READY
        assert tries == 3
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await custody.close()
    tries = 0
    with pytest.raises(ConfigError):
        await Custody(bench.open, sometimes, Readers("libno-such.so.1")).start()
    with pytest.raises(AgentError) as refused:
        await Custody(bench.open, sometimes, Readers("libno-such.so.1")).unlock(lambda: None)
    assert refused.value.reason == "file-unreadable"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_FIRST", "RETRY_MOST", "ASK_EVERY"):
        monkeypatch.setattr(custody_module, name, 0.01)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("token-absent", TokenState.ABSENT),
        ("token-busy", TokenState.BUSY),
        ("token-other", TokenState.WRONG_TOKEN),
        ("token-fault", TokenState.FAULT),
        ("worker-lost", TokenState.FAULT),
        ("pin-locked", TokenState.PIN_BLOCKED),
        ("pin-refused-before", TokenState.LOCKED),
        ("pin-in-doubt", TokenState.LOCKED),
        ("pin-final-try", TokenState.LOCKED),
        ("pin-credential", TokenState.LOCKED),
        ("pin-ledger", TokenState.LOCKED),
    ],
)
async def test_what_is_waited_for(reason: str, state: TokenState) -> None:
    token = ScriptedToken(Watch.NOTHING)
    bench = Bench(TokenError(reason, "no"), TokenError(reason, "no"), token)
    custody = bench.custody
    await custody.start()
    assert (custody.state, custody.why, custody.terminal) == (state, f"no [{reason}]", None)
    running = asyncio.create_task(custody.run())
    async with asyncio.timeout(10):
        await custody.ready()
    assert (custody.state, custody.why) == (TokenState.READY, "")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await custody.close()
    assert token.closed


@pytest.mark.parametrize(
    "error",
    [
        TokenError("pin-wrong", "no"),
        TokenError("module-missing", "no"),
        TokenError("uri-scheme", "no"),
        TokenError("key-missing", "no"),
        TokenError("key-other", "no"),
        AgentError("no-certificate", "no", ""),
    ],
)
async def test_what_the_daemon_does_not_start_with(error: TokenError | AgentError) -> None:
    with pytest.raises(type(error)) as raised:
        await Bench(error).custody.start()
    assert raised.value is error


async def test_an_opened_token_without_certificate_is_closed() -> None:
    token = ScriptedToken(Watch.NOTHING)
    custody = Bench(token).custody

    def refuse(keys: OpenedToken) -> Terminal:
        raise AgentError("no-certificate", "no", "")

    custody._make_terminal = refuse
    with pytest.raises(AgentError):
        await custody.start()
    assert token.closed


async def test_a_loss_is_told_at_once_and_another_terminal_made() -> None:
    first, second = ScriptedToken(Watch.SLOTS), ScriptedToken(Watch.SLOTS)
    bench = Bench(first, TokenError("token-absent", "no"), TokenError("key-other", "another"), second)
    custody = bench.custody
    await custody.start()
    terminal = custody.terminal
    assert terminal is not None
    seen: list[tuple[TokenState, object]] = []
    terminal.lost.add_done_callback(lambda _: seen.append((custody.state, custody.terminal)))
    running = asyncio.create_task(custody.run())
    first.gone = TokenError("token-absent", "pulled")
    async with asyncio.timeout(10):
        assert (await terminal.lost).args == ("pulled",)
        await asyncio.sleep(0)
        # Sessions are told after the custody, so that none begins anew with what is lost.
        assert seen == [(TokenState.ABSENT, None)]
        await custody.ready()
    assert first.closed
    assert not second.closed
    assert custody.terminal is not terminal
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await custody.close()


async def test_a_hiccup_of_the_worker_is_no_removal() -> None:
    token = ScriptedToken(Watch.SLOTS)
    custody = Bench(token).custody
    await custody.start()
    token.gone = TokenError("worker-lost", "died")
    running = asyncio.create_task(custody.run())
    await asyncio.sleep(0.1)
    assert custody.state is TokenState.READY
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_a_session_saw_ends_the_terminal_too() -> None:
    first, second = ScriptedToken(Watch.NOTHING), ScriptedToken(Watch.NOTHING)
    custody = Bench(first, second).custody
    await custody.start()
    terminal = custody.terminal
    assert terminal is not None
    running = asyncio.create_task(custody.run())
    terminal.lose(TokenError("token-fault", "once"))
    terminal.lose(TokenError("token-fault", "twice"))
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        await custody.ready()
    assert custody.keys is cast(OpenedToken, second)
    assert terminal.lost.result().args == ("once",)
    assert first.closed
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_certificates_are_read_again_and_the_loss_stays_one() -> None:
    token = ScriptedToken(Watch.NOTHING)
    custody = Bench(token).custody
    custody.read_again()  # nothing is open: nothing happens
    await custody.start()
    before = custody.terminal
    policy = cast(Policy, None)
    custody._make_terminal = lambda keys: Terminal("urn:uuid:x", keys, [b"new"], [b"data"], policy)
    custody.read_again()
    after = custody.terminal
    assert before is not None
    assert after is not None
    assert (before.identity_chain, after.identity_chain, after.data_chain) == ([b"leaf"], [b"new"], [b"data"])
    before.lose(TokenError("token-absent", "pulled"))
    assert after.lost.done()
    await asyncio.sleep(0)
    assert custody.terminal is None


async def test_a_certificate_that_is_being_got_is_waited_for() -> None:
    first, second = ScriptedToken(Watch.NOTHING), ScriptedToken(Watch.NOTHING)
    bench = Bench(first, second)
    there: list[bool] = []

    def make(keys: OpenedToken) -> Terminal:
        if not there:
            raise AgentError("no-certificate", "no", "")
        return Bench.make(keys)

    custody = Custody(bench.open, make, Readers("libno-such.so.1"), awaited={"no-certificate"})
    await custody.start()
    assert custody.why == "no [no-certificate]"
    assert first.closed
    there.append(True)
    running = asyncio.create_task(custody.run())
    async with asyncio.timeout(10):
        await custody.ready()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_card_that_comes_in_the_middle_of_a_try_is_looked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RETRY_FIRST", "RETRY_MOST"):
        monkeypatch.setattr(custody_module, name, 60.0)
    readers, tries = Readers("libno-such.so.1"), 0

    async def open_keys() -> OpenedToken:
        nonlocal tries
        tries += 1
        # The module has listed its slots by now, and the card comes in only after that.
        readers._publish({"reader": (0, tries)})
        await asyncio.sleep(0)
        if tries < 8:
            raise TokenError("token-absent", "not yet")
        return cast(OpenedToken, ScriptedToken(Watch.NOTHING))

    custody = Custody(open_keys, Bench.make, readers)
    await custody.start()
    running = asyncio.create_task(custody.run())
    async with asyncio.timeout(10):
        while tries == 1:
            await asyncio.sleep(0.01)
            readers._publish({})
        await custody.ready()
    assert tries == 8
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await custody.close()


async def test_what_an_operator_hands_over_is_for_the_operators_own_try() -> None:
    """A retry that is under way would use it up, and tell nobody what came of it."""
    handed: list[str] = []
    tries: list[int] = []
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def open_keys() -> OpenedToken:
        number = len(tries)
        tries.append(0)
        if number == 1:
            begun.set()
            await goes_on.wait()
        tries[number] = len(handed)
        raise TokenError("pin-wrong" if handed else "pin-wanted", "no")

    custody = Custody(open_keys, Bench.make, Readers("libno-such.so.1"))
    await custody.start()
    running = asyncio.create_task(custody.run())
    async with asyncio.timeout(10):
        await begun.wait()
        unlocking = asyncio.create_task(custody.unlock(lambda: handed.append("PIN")))
        await asyncio.sleep(0)
        assert not handed
        goes_on.set()
        with pytest.raises(TokenError) as refusal:
            await unlocking
    assert refusal.value.reason == "pin-wrong"
    assert tries[:3] == [0, 0, 1]
    assert custody.why == "no [pin-wrong]"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await custody.close()


_READY = (TokenState.READY, "")


@pytest.mark.parametrize("role", [KeyRole.IDENTITY, KeyRole.DATA])
async def test_either_of_two_tokens_is_the_token(role: KeyRole) -> None:
    first = ScriptedTokens()
    absent = TokenError("token-absent", "not yet")
    blocked = {KeyRole.IDENTITY: absent, KeyRole.DATA: TokenError("pin-locked", "blocked")}
    bench = Bench(first, SplitTokenError({role: absent}), SplitTokenError(blocked), ScriptedTokens())
    custody, seen = bench.custody, []
    await custody.start()
    assert custody.parts == dict.fromkeys(first.parts, _READY)
    terminal = custody.terminal
    assert terminal is not None
    real = custody._not_ready

    def note(error: TokenError | AgentError) -> None:
        real(error)
        seen.append((custody.state, dict(custody.parts)))

    custody._not_ready = note  # type: ignore[method-assign]  # to see what passes too soon to be asked for
    running = asyncio.create_task(custody.run())
    first.parts[role].gone = TokenError("token-absent", "pulled")
    async with asyncio.timeout(10):
        lost = await terminal.lost
        await asyncio.sleep(0)
        await custody.ready()
    assert str(lost) == f"the {role.value} key's token: pulled"
    other = KeyRole.DATA if role is KeyRole.IDENTITY else KeyRole.IDENTITY
    absent_now = (TokenState.ABSENT, "not yet [token-absent]")
    assert seen == [
        (TokenState.ABSENT, {role: (TokenState.ABSENT, "pulled [token-absent]"), other: _READY}),
        (TokenState.ABSENT, {role: absent_now, other: _READY}),
        (
            TokenState.ABSENT,
            {KeyRole.IDENTITY: absent_now, KeyRole.DATA: (TokenState.PIN_BLOCKED, "blocked [pin-locked]")},
        ),
    ]
    assert custody.parts == dict.fromkeys(first.parts, _READY)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
