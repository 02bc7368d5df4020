"""Workers that die, hang or lose their token: the meeting goes on, or says clearly why not."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens import provision, softhsm
from dongled.tokens.api import KeyRole
from dongled.tokens.broker import Backoff, Broker
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import OpenedToken, open_token
from support.lag import MOST, lag_until
from tokens.bench import SoftToken, answering, point_of, proc, wait_gone
from tokens.test_opened import public, verify


class FakeClock:
    """A clock that a sleep moves on."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def worker_of(opened: OpenedToken) -> int:
    pid = opened._identity._broker.worker_pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize("operation", ["sign", "derive"])
@pytest.mark.fault("worker killed in mid-operation")
async def test_killed_in_mid_operation(opened: OpenedToken, number: int, operation: str) -> None:
    before = worker_of(opened)
    peer = ec.generate_private_key(ec.SECP256R1())
    os.kill(before, signal.SIGSTOP)
    asked = asyncio.create_task(
        opened.sign(b"d" * 32) if operation == "sign" else opened.derive(point_of(peer), "peer")
    )
    # The request is in the socket, and the worker stands still.
    await asyncio.sleep(0.05)
    assert not asked.done()
    os.kill(before, number)
    # A process that is stopped dies of SIGKILL at once, of the others when it goes on.
    with suppress(ProcessLookupError):
        os.kill(before, signal.SIGCONT)

    answer = await asked
    if operation == "sign":
        verify(opened.identity, answer, b"d" * 32)
    else:
        assert answer == peer.exchange(ec.ECDH(), public(opened.data))
    assert worker_of(opened) != before
    assert opened._identity._broker.respawns == 1


@pytest.mark.fault("worker killed while idle")
async def test_killed_while_idle(token: SoftToken) -> None:
    clock = FakeClock()
    opened = await open_token(token.module, token.uri, token.pin, clock=clock)
    for _ in range(6):
        before = worker_of(opened)
        os.kill(before, signal.SIGKILL)
        assert await asyncio.to_thread(wait_gone, before)
        verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
        assert worker_of(opened) != before
    # The first at once, then ever later; nobody waited for real.
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert opened._identity._broker.respawns == 6
    await opened.close()


def test_a_worker_that_fails_all_night_is_still_started() -> None:
    # 2 to the power of so many failures is no float.
    backoff, now = Backoff(), 0.0
    for _ in range(1100):
        backoff.failed(now)
        now += backoff.wait(now)
    assert backoff.wait(now - 1) == 1


def test_backoff_has_an_end_and_forgives() -> None:
    backoff, now, waits = Backoff(), 0.0, []
    assert backoff.wait(now) == 0
    for _ in range(12):
        backoff.failed(now)
        waits.append(backoff.wait(now))
        now += waits[-1]
    assert waits == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    now += 61
    backoff.failed(now)
    assert backoff.wait(now) == 0


@pytest.mark.fault("worker hangs")
async def test_a_hanging_worker_is_killed_at_the_deadline(token: SoftToken) -> None:
    opened = await open_token(token.module, token.uri, token.pin, deadlines={"sign": 1.0})
    before = worker_of(opened)
    os.kill(before, signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TokenError) as refusal:
        await opened.sign(bytes(32))
    assert refusal.value.reason == "token-timeout"
    assert 1 <= loop.time() - started < 6
    assert wait_gone(before)
    verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
    await opened.close()


@pytest.mark.fault("worker hangs")
async def test_the_event_loop_goes_on_while_the_token_hangs(token: SoftToken) -> None:
    opened = await open_token(token.module, token.uri, token.pin, deadlines={"sign": 0.5})
    os.kill(worker_of(opened), signal.SIGSTOP)
    asked = asyncio.create_task(opened.sign(bytes(32)))
    assert await lag_until(asked) < MOST
    assert isinstance(asked.exception(), TokenError)
    await opened.close()


@pytest.mark.property("P2")
@pytest.mark.fault("token re-initialised under the same serial")
async def test_other_keys_after_a_respawn_are_refused(token: SoftToken) -> None:
    opened = await open_token(token.module, token.uri, token.pin)
    made = await provision.initialize(
        token.module, "terminal", answering(token.so_pin_text), token.pin, erase=token.serial
    )
    assert made.token.uri == token.uri
    for role in softhsm.TERMINAL_ROLES:
        await provision.generate(token.module, token.uri, token.pin, role)
    os.kill(worker_of(opened), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(TokenError) as refusal:
            await opened.sign(bytes(32))
        assert refusal.value.reason == "key-other"
    await opened.close()


@pytest.mark.property("P13")
@pytest.mark.fault("token gone after a crash")
async def test_a_token_that_is_gone_is_named_and_comes_back(token: SoftToken) -> None:
    clock = FakeClock()
    opened = await open_token(token.module, token.uri, token.pin, clock=clock)
    away = token.directory / "away"
    shutil.move(token.directory / "tokens", away)
    (token.directory / "tokens").mkdir()
    os.kill(worker_of(opened), signal.SIGKILL)
    with pytest.raises(TokenError) as refusal:
        await opened.sign(bytes(32))
    assert refusal.value.reason == "token-absent"
    (token.directory / "tokens").rmdir()
    shutil.move(away, token.directory / "tokens")
    verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
    await opened.close()


@pytest.mark.fault("key deleted elsewhere")
async def test_a_deleted_key_is_named(token: SoftToken) -> None:
    opened = await open_token(token.module, token.uri, token.pin)
    done = await asyncio.create_subprocess_exec(
        "pkcs11-tool", "--module", token.module, "--login", "--pin", token.pin_text,
        "--delete-object", "--type", "privkey", "--id", opened.identity.cka_id.hex(),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await done.wait() == 0
    with pytest.raises(TokenError) as refusal:
        await opened.sign(bytes(32))
    assert refusal.value.reason == "key-missing"
    await opened.close()


async def test_a_change_of_the_token_is_never_made_twice(store: Path) -> None:
    """A worker that dies over a change may have made it: whoever asked has to look."""
    broker = Broker(softhsm.find_module())
    (blank,) = await broker.call("tokens")
    os.kill(broker.worker_pid or 0, signal.SIGSTOP)
    asked = asyncio.create_task(
        broker.call("init_token", slot=blank["slot"], serial="", so_pin="12345678", label="x")
    )
    await asyncio.sleep(0.05)
    os.kill(broker.worker_pid or 0, signal.SIGKILL)
    with pytest.raises(TokenError) as refusal:
        await asked
    assert refusal.value.reason == "worker-lost"
    assert [found["initialized"] for found in await broker.call("tokens")] == [False]
    await broker.close()


_DAEMON = """
import asyncio, sys
from pathlib import Path
from dongled.tokens.opened import open_token
from dongled.tokens.pin import PinFile
async def main():
    opened = await open_token(sys.argv[1], sys.argv[2], PinFile(Path(sys.argv[3])))
    print(opened._identity._broker.worker_pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.fault("daemon killed")
def test_a_worker_does_not_outlive_its_daemon(token: SoftToken, stopped: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DAEMON, token.module, token.uri, str(token.directory / "pin")],
        stdout=subprocess.PIPE,
    ) as daemon:
        assert daemon.stdout is not None
        worker = int(daemon.stdout.readline())
        if stopped:
            os.kill(worker, signal.SIGSTOP)
        handle = os.pidfd_open(worker)
        daemon.kill()
    ready, _, _ = select.select([handle], [], [], 10)
    os.close(handle)
    assert ready


async def test_a_worker_ignores_ctrl_c_and_leaves_no_core(opened: OpenedToken) -> None:
    worker = worker_of(opened)
    os.kill(worker, signal.SIGINT)
    await opened.sign(bytes(32))
    assert worker_of(opened) == worker
    limits = proc(worker, "limits")
    (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]


@pytest.mark.property("P2")
def test_a_worker_can_be_neither_dumped_nor_traced() -> None:
    get_dumpable = 3
    code = (
        "import ctypes, os; from dongled.tokens.worker.process import harden; harden(os.getppid());"
        f"raise SystemExit(10 + ctypes.CDLL(None).prctl({get_dumpable}, 0, 0, 0, 0))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 10


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("/nowhere/module.so", "module-missing"),
        ("nowhere-module.so", "module-unusable"),
        (shutil.which("true"), "module-unusable"),
        (__file__, "module-unusable"),
    ],
)
async def test_a_file_that_is_no_module(module: str, reason: str) -> None:
    with pytest.raises(TokenError) as refusal:
        await provision.list_tokens(module)
    assert refusal.value.reason == reason
    assert refusal.value.hint


async def test_the_key_of_an_absent_role(token: SoftToken) -> None:
    with pytest.raises(TokenError) as refusal:
        await provision.request_certificate(token.module, token.uri, token.pin, KeyRole.CA, x509.Name([]))
    assert refusal.value.reason == "key-missing"
