"""One wrong PIN is one try. pkcs11-spy stands between and counts (it logs PINs: throw-away ones only)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from dongled.tokens.errors import TokenError
from dongled.tokens.failures import DeadlinePassed, ModuleFault, WorkerLost
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.opened import open_token
from dongled.tokens.pin import Pin, PinFile
from dongled.tokens.unlocking import Unlocking
from tokens.bench import SPY, SoftToken, answering, proc, wait_gone, write_pin
from tokens.test_faults import FakeClock, worker_of


@pytest.fixture
def logins(token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many C_Login calls the module saw since."""
    log = tmp_path / "spy.log"
    monkeypatch.setenv("PKCS11SPY", token.module)
    monkeypatch.setenv("PKCS11SPY_OUTPUT", str(log))
    return lambda: len(re.findall(r"^\d+: C_Login$", log.read_text(), re.MULTILINE))


async def test_a_wrong_pin_costs_one_try_ever(token: SoftToken, logins: Callable[[], int]) -> None:
    wrong, ledger = token.wrong_pin(), MemoryLedger()
    with pytest.raises(TokenError) as refusal:
        await open_token(SPY, token.uri, wrong, ledger=ledger)
    assert refusal.value.reason == "pin-wrong"
    assert logins() == 1
    for _ in range(3):
        with pytest.raises(TokenError) as refusal:
            await open_token(SPY, token.uri, wrong, ledger=ledger)
        assert refusal.value.reason == "pin-refused-before"
    assert logins() == 1

    os.utime(write_pin(token.directory / "wrong", token.pin_text), ns=(1, 1))
    opened = await open_token(SPY, token.uri, wrong, ledger=ledger)
    assert logins() == 2
    await opened.close()


async def test_the_same_wrong_pin_by_many_at_once_costs_one_try(
    token: SoftToken, logins: Callable[[], int]
) -> None:
    ledger = MemoryLedger()
    attempts = [open_token(SPY, token.uri, token.wrong_pin(), ledger=ledger) for _ in range(4)]
    refusals = await asyncio.gather(*attempts, return_exceptions=True)
    reasons = [refusal.reason for refusal in refusals if isinstance(refusal, TokenError)]
    assert sorted(reasons) == ["pin-refused-before"] * 3 + ["pin-wrong"]
    assert logins() == 1


@pytest.mark.fault("PIN changed elsewhere")
async def test_a_respawn_never_repeats_a_refused_pin(token: SoftToken, logins: Callable[[], int]) -> None:
    opened = await open_token(SPY, token.uri, token.pin, ledger=MemoryLedger(), clock=FakeClock())
    assert logins() == 1
    done = await asyncio.create_subprocess_exec(
        "pkcs11-tool", "--module", token.module, "--login", "--pin", token.pin_text,
        "--change-pin", "--new-pin", "8" + token.pin_text,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await done.wait() == 0
    worker = worker_of(opened)
    os.kill(worker, signal.SIGKILL)
    await asyncio.to_thread(wait_gone, worker)
    for reason in ("pin-wrong", "pin-refused-before", "pin-refused-before"):
        with pytest.raises(TokenError) as refusal:
            await opened.sign(bytes(32))
        assert refusal.value.reason == reason
    assert logins() == 2

    # Whoever mends the PIN gets the meeting back, without a restart.
    write_pin(token.directory / "pin", "8" + token.pin_text)
    assert len(await opened.sign(bytes(32))) == 64
    assert logins() == 3
    await opened.close()


async def test_a_right_pin_survives_any_number_of_crashes(
    token: SoftToken, logins: Callable[[], int]
) -> None:
    opened = await open_token(SPY, token.uri, token.pin, ledger=MemoryLedger(), clock=FakeClock())
    for crash in range(3):
        worker = worker_of(opened)
        os.kill(worker, signal.SIGKILL)
        await asyncio.to_thread(wait_gone, worker)
        await opened.sign(bytes(32))
        assert logins() == crash + 2
    await opened.close()


async def test_a_pin_handed_over_in_the_middle_of_an_attempt_is_tried_once(
    token: SoftToken, logins: Callable[[], int]
) -> None:
    """An operator comes while the configured source is asked, which takes a FIDO2 key a second."""

    class Asked(PinFile):
        def version(self) -> tuple[str, ...]:
            unlocking.hand_over(Pin("9" + token.pin_text))
            return super().version()

    unlocking, ledger = Unlocking(cache(lambda: Asked(token.directory / "pin"))), MemoryLedger()
    opened = await open_token(SPY, token.uri, unlocking, ledger=ledger)
    await opened.close()
    assert logins() == 1
    for reason in ("pin-wrong", "pin-refused-before"):
        with pytest.raises(TokenError) as refusal:
            await open_token(SPY, token.uri, unlocking, ledger=ledger)
        assert refusal.value.reason == reason
    assert logins() == 2


@pytest.mark.fault("worker dies over the PIN")
async def test_a_pin_whose_fate_is_unknown_is_not_tried_again(
    token: SoftToken, logins: Callable[[], int]
) -> None:
    class Stopping(PinFile):
        """Stops the worker just before it is given the PIN."""

        def read(self) -> Pin:
            (child,) = _workers()
            os.kill(child, signal.SIGSTOP)
            return super().read()

    ledger = MemoryLedger()
    source = Stopping(token.directory / "pin")
    with pytest.raises(TokenError) as refusal:
        await open_token(SPY, token.uri, source, ledger=ledger, deadlines={"login": 0.2})
    assert refusal.value.reason == "token-timeout"
    with pytest.raises(TokenError) as refusal:
        await open_token(SPY, token.uri, PinFile(token.directory / "pin"), ledger=ledger)
    assert refusal.value.reason == "pin-in-doubt"
    assert logins() == 0


def _workers() -> list[int]:
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "tokens.worker" in line]


async def fare(ledger: MemoryLedger, error: BaseException | None, version: str = "v") -> str:
    try:
        async with ledger.attempt("serial", (version,), "a test"):
            if error is not None:
                raise error
    except TokenError as raised:
        return raised.reason
    return "accepted"


@pytest.mark.parametrize(
    ("error", "later", "after_success"),
    [
        (ModuleFault("PinIncorrect", ""), "pin-refused-before", "pin-refused-before"),
        (ModuleFault("PinLocked", ""), "pin-refused-before", "pin-refused-before"),
        (ModuleFault("PinLenRange", ""), "pin-refused-before", "pin-refused-before"),
        (ModuleFault("DeviceError", ""), "pin-in-doubt", "accepted"),
        (ModuleFault("TokenNotPresent", ""), "accepted", "accepted"),
        (ModuleFault("SessionCount", ""), "accepted", "accepted"),
        (TokenError("token-changed", ""), "accepted", "accepted"),
        (WorkerLost("signal 9"), "pin-in-doubt", "accepted"),
        (DeadlinePassed("login", 1), "pin-in-doubt", "accepted"),
    ],
)
async def test_what_the_ledger_makes_of_a_failure(error: TokenError, later: str, after_success: str) -> None:
    fresh, tried = MemoryLedger(), MemoryLedger()
    assert await fare(fresh, error) == error.reason
    assert await fare(fresh, None) == later
    assert await fare(fresh, None, "another") == "accepted"
    assert await fare(tried, None) == "accepted"
    assert await fare(tried, error) == error.reason
    assert await fare(tried, None) == after_success


async def test_the_ledger_lets_one_try_at_a_time() -> None:
    ledger, trying, told = MemoryLedger(), asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with ledger.attempt("serial", ("v",), "a test"):
            trying.set()
            await told.wait()
            raise ModuleFault("PinIncorrect", "")

    one = asyncio.create_task(first())
    await trying.wait()
    two = asyncio.create_task(fare(ledger, None))
    assert await fare(ledger, None, "another") == "accepted"
    done, _ = await asyncio.wait([two], timeout=0.05)
    assert not done
    told.set()
    assert await two == "pin-refused-before"
    assert isinstance((await asyncio.gather(one, return_exceptions=True))[0], ModuleFault)


@pytest.mark.parametrize("right", [True, False])
async def test_no_pin_shows_anywhere(
    token: SoftToken, right: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    pin = token.pin_text if right else "9" + token.pin_text
    seen = []
    try:
        opened = await open_token(token.module, token.uri, answering(pin), ledger=MemoryLedger())
    except TokenError as refusal:
        seen += [str(refusal), repr(refusal), refusal.hint, repr(refusal.__context__)]
    else:
        session = opened._identity
        seen += [repr(vars(session)), repr(vars(session._broker)), repr(vars(session._pin))]
        for pid in (os.getpid(), worker_of(opened)):
            for name in ("cmdline", "environ"):
                seen.append(proc(pid, name))
        await opened.close()
    printed = capfd.readouterr()
    assert pin not in "".join((*seen, caplog.text, printed.out, printed.err))
    assert len(seen) >= 4
