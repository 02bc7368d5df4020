"""The ledger on disk: what it keeps, what it does not, and that whatever is wrong with it closes."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dongled.tokens.errors import TokenError
from dongled.tokens.failures import DeadlinePassed, ModuleFault, WorkerLost
from dongled.tokens.ledger_file import MOST, NAME, FileLedger
from dongled.tokens.opened import open_token
from tokens.bench import SoftToken
from tokens.test_pin_tries import fare

REFUSED, PERHAPS, NEVER = (ModuleFault(name, "") for name in ("PinIncorrect", "DeviceError", "SessionCount"))


@pytest.mark.parametrize(
    ("errors", "later"),
    [
        ([REFUSED], "pin-refused-before"),
        ([PERHAPS], "pin-in-doubt"),
        ([WorkerLost("signal 9")], "pin-in-doubt"),
        ([DeadlinePassed("login", 1)], "pin-in-doubt"),
        ([NEVER], "accepted"),
        ([None], "accepted"),
        ([None, PERHAPS], "accepted"),
        ([None, REFUSED], "pin-refused-before"),
        ([NEVER, REFUSED], "pin-refused-before"),
    ],
)
async def test_a_verdict_outlives_the_process(
    tmp_path: Path, errors: list[TokenError | None], later: str
) -> None:
    for error in errors:
        await fare_anew(tmp_path, error)
    assert await fare_anew(tmp_path, None) == later
    assert await fare_anew(tmp_path, None, "changed") == "accepted"


async def fare_anew(directory: Path, error: BaseException | None, version: str = "v") -> str:
    return await fare(FileLedger(directory), error, version)


async def test_it_is_found_by_nobody_else(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "deeper"
    await fare_anew(directory, REFUSED)
    assert sorted(os.listdir(directory)) == ["pins.json", "pins.lock"]
    for name in os.listdir(directory):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600


_DAEMON = 12345


async def test_what_root_notes_the_daemon_can_go_on_with(tmp_path: Path) -> None:
    """An operator who seals or tries a PIN is root, and the daemon is not."""
    os.chown(tmp_path, _DAEMON, _DAEMON)
    await fare_anew(tmp_path, REFUSED)
    for name in ("pins.json", "pins.lock"):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (_DAEMON, _DAEMON, 0o600)


@pytest.mark.parametrize("name", ["pins.lock", "pins.new"])
async def test_nobody_is_given_another_file_than_the_ledger(tmp_path: Path, name: str) -> None:
    state, roots = tmp_path / "state", tmp_path / "shadow"
    state.mkdir()
    os.chown(state, _DAEMON, _DAEMON)
    roots.write_text("root's")
    (state / name).symlink_to(roots)
    await fare_anew(state, REFUSED)
    assert roots.stat().st_uid == 0
    assert roots.read_text() == "root's"


@pytest.mark.property("P2")
@pytest.mark.fault("wrong PIN, restarted")
async def test_a_real_tokens_refusal_is_kept_without_the_pin(token: SoftToken, tmp_path: Path) -> None:
    state, wrong = tmp_path / "state", token.wrong_pin()
    reasons = []
    for _ in range(3):
        with pytest.raises(TokenError) as refusal:
            await open_token(token.module, token.uri, wrong, ledger=FileLedger(state))
        reasons.append(refusal.value.reason)
    assert reasons == ["pin-wrong", "pin-refused-before", "pin-refused-before"]
    assert str(state / NAME) in refusal.value.hint
    (entry,) = json.loads((state / NAME).read_text())["tries"]
    path = token.directory / "wrong"
    status = path.stat()
    assert entry == {
        "serial": token.serial,
        "source": ["file", str(path), str(status.st_mtime_ns), str(status.st_size)],
        "verdict": "refused",
    }


@pytest.mark.fault("power cut over the PIN")
async def test_a_daemon_that_dies_over_the_pin_leaves_it_in_doubt(tmp_path: Path) -> None:
    dying = f"""
import asyncio, os, pathlib
from dongled.tokens.ledger_file import FileLedger
async def main():
    async with FileLedger(pathlib.Path({str(tmp_path)!r})).attempt("serial", ("v",), "a test"):
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    assert (await asyncio.to_thread(subprocess.run, [sys.executable, "-c", dying])).returncode == -9
    assert await fare_anew(tmp_path, None) == "pin-in-doubt"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 2, "tries": []}',
        b'{"format": 1, "tries": 7}',
        b'{"format": 1, "tries": [{}]}',
        b'{"format": 1, "tries": [{"serial": 1, "source": ["v"], "verdict": "refused"}]}',
        b'{"format": 1, "tries": [{"serial": "s", "source": [{}], "verdict": "refused"}]}',
        b'{"format": 1, "tries": [{"serial": "s", "source": ["v"], "verdict": "fine"}]}',
        b'{"format": 1, "tries": [' + b" " * (1 << 20) + b"]}",
    ],
)
@pytest.mark.fault("corrupt PIN ledger")
async def test_a_damaged_ledger_lets_no_pin_through(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert await fare_anew(tmp_path, None) == "pin-ledger"
    assert (tmp_path / NAME).read_bytes() == content
    (tmp_path / NAME).unlink()
    assert await fare_anew(tmp_path, None) == "accepted"


async def test_where_nothing_can_be_kept_no_pin_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert await fare_anew(tmp_path / "file", None) == "pin-ledger"
    (tmp_path / NAME).mkdir()
    assert await fare_anew(tmp_path, None) == "pin-ledger"


async def test_a_refusal_that_cannot_be_kept_holds_in_memory(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    await fare(ledger, None)
    (tmp_path / "pins.new").mkdir()
    assert await fare(ledger, REFUSED) == "pin-wrong"
    assert await fare(ledger, None) == "pin-refused-before"


async def test_two_processes_spend_one_try(tmp_path: Path) -> None:
    one, two = FileLedger(tmp_path), FileLedger(tmp_path)
    trying, told = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with one.attempt("serial", ("v",), "a test"):
            trying.set()
            await told.wait()
            raise REFUSED

    task = asyncio.create_task(first())
    await trying.wait()
    waiting = asyncio.create_task(fare(two, None))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    told.set()
    assert await waiting == "pin-refused-before"
    await asyncio.gather(task, return_exceptions=True)


async def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    await fare(ledger, REFUSED, "oldest")
    content = json.loads((tmp_path / NAME).read_text())
    content["tries"] += [{**content["tries"][0], "source": [f"v{number}"]} for number in range(MOST)]
    (tmp_path / NAME).write_text(json.dumps(content))
    await fare(ledger, REFUSED, "newest")
    kept = [entry["source"] for entry in json.loads((tmp_path / NAME).read_text())["tries"]]
    assert len(kept) == MOST
    assert kept[-1] == ["newest"]
    assert ["oldest"] not in kept
