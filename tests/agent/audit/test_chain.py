"""The chain: what was written is there, and whatever is done to it shows."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dongled.agent.audit.chain import HEAD, Broken, Head, digest, segments, verify, verify_directory
from dongled.agent.audit.file import AuditFile
from dongled.agent.errors import AgentError

pytestmark = pytest.mark.property("P14")


def write(directory: Path, count: int, *, most: int = 1 << 20, keep: int = 16) -> None:
    file = AuditFile(directory, most=most, keep=keep)
    for number in range(count):
        file.append({"time": "2027-03-01T12:00:00Z", "event": "granted", "streams": ["camera"], "of": number})
    file.close()


def broken(directory: Path) -> str:
    with pytest.raises(Broken) as caught:
        verify_directory(directory)
    return caught.value.reason


def test_what_was_written_holds_over_restarts_and_has_its_first_known(tmp_path: Path) -> None:
    write(tmp_path, 3)
    first = verify_directory(tmp_path)
    write(tmp_path, 2)
    found = verify_directory(tmp_path, first.head.sha256)
    assert (found.first, found.head.number, found.torn, found.cut, found.known) == (1, 5, 0, (), True)
    assert not verify_directory(tmp_path, "00" * 32).known


def lines_of(directory: Path) -> list[bytes]:
    return segments(directory)[0].read_bytes().splitlines(keepends=True)


def put(directory: Path, lines: list[bytes]) -> None:
    segments(directory)[0].write_bytes(b"".join(lines))


def put_behind(lines: list[bytes]) -> list[bytes]:
    """As the daemon leaves it when the power fails between a record and the head; or somebody else does."""
    last = json.loads(lines[-1])
    line, _ = Head(last["n"], digest(lines[-1].rstrip(b"\n"))).next({"event": "granted"})
    return [*lines, line]


TAMPERED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a word changed": (
        lambda lines: [*lines[:2], lines[2].replace(b"granted", b"refused"), *lines[3:]],
        "audit-chain",
    ),
    "the last changed": (lambda lines: [*lines[:-1], lines[-1].replace(b"camera", b"screen")], "audit-chain"),
    "the last numbered anew": (
        lambda lines: [*lines[:-1], re.sub(rb'"n":\d+', b'"n":900', lines[-1])],
        "audit-chain",
    ),
    "the last changed and one put behind it": (
        lambda lines: put_behind([*lines[:-1], lines[-1].replace(b"camera", b"screen")]),
        "audit-chain",
    ),
    "one taken out": (lambda lines: [*lines[:2], *lines[3:]], "audit-chain"),
    "the first taken out": (lambda lines: lines[1:], ""),
    "two swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "audit-chain"),
    "one twice": (lambda lines: [*lines[:2], lines[1], *lines[2:]], "audit-chain"),
    "the end cut off": (lambda lines: lines[:-1], "audit-cut"),
    "all gone": (lambda lines: [], "audit-cut"),
    "rubbish put in": (lambda lines: [*lines[:2], b"rubbish\n", *lines[2:]], "audit-garbage"),
    "rubbish at the end": (lambda lines: [*lines, b"rubbish\n"], "audit-garbage"),
    "a nested bomb": (lambda lines: [*lines, b"[" * 9000 + b"\n"], "audit-garbage"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_whatever_is_done_to_it_shows(tmp_path: Path, how: str) -> None:
    write(tmp_path, 5)
    change, reason = TAMPERED[how]
    put(tmp_path, change(lines_of(tmp_path)))
    if reason:
        assert broken(tmp_path) == reason
    else:
        # Old files go too: it says where it begins.
        assert verify_directory(tmp_path).first == 2


def test_files_alone_show_a_last_record_that_was_numbered_anew(tmp_path: Path) -> None:
    write(tmp_path, 3)
    change, _ = TAMPERED["the last numbered anew"]
    put(tmp_path, change(lines_of(tmp_path)))
    with pytest.raises(Broken):
        verify(segments(tmp_path))


def test_a_first_record_follows_none(tmp_path: Path) -> None:
    path = tmp_path / "audit-000000000001.jsonl"
    line, _ = Head(0, "11" * 32).next({"event": "granted"})
    path.write_bytes(line)
    with pytest.raises(Broken):
        verify([path])


def test_the_power_fails_between_a_record_and_the_head(tmp_path: Path) -> None:
    write(tmp_path, 5)
    put(tmp_path, put_behind(lines_of(tmp_path)))
    assert verify_directory(tmp_path).head.number == 6
    write(tmp_path, 1)
    found = verify_directory(tmp_path)
    assert (found.head.number, found.cut) == (7, ())


def test_a_chain_written_anew_shows_by_a_hash_that_was_written_down(tmp_path: Path) -> None:
    write(tmp_path / "a", 5)
    known = verify_directory(tmp_path / "a").head.sha256
    write(tmp_path / "b", 6)
    for path in segments(tmp_path / "a"):
        path.unlink()
    segments(tmp_path / "b")[0].rename(tmp_path / "a" / "audit-000000000001.jsonl")
    (tmp_path / "b" / HEAD).rename(tmp_path / "a" / HEAD)
    lines = lines_of(tmp_path / "a")
    put(tmp_path / "a", lines)
    assert verify_directory(tmp_path / "a", known).known
    write(tmp_path / "c", 1)
    assert not verify_directory(tmp_path / "c", known).known


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_power_cut_tears_one_record_and_the_next_names_it(tmp_path: Path, left: int) -> None:
    write(tmp_path, 3)
    whole = lines_of(tmp_path)
    put(tmp_path, [*whole, whole[-1].replace(b'"n":3', b'"n":4')[:left]])
    assert verify_directory(tmp_path).torn == 1
    write(tmp_path, 2)
    found = verify_directory(tmp_path)
    assert (found.head.number, found.torn, found.cut) == (6, 1, ())
    # Who takes the rest of it away, or changes it, shows.
    lines = lines_of(tmp_path)
    put(tmp_path, [*lines[:3], b"x" + lines[3], *lines[4:]])
    assert broken(tmp_path) == "audit-garbage"


def test_the_power_fails_again_before_it_was_named(tmp_path: Path) -> None:
    write(tmp_path, 3)
    put(tmp_path, [*lines_of(tmp_path), b'{"n":4,"pre'])
    AuditFile(tmp_path, most=1 << 20, keep=4).close()
    write(tmp_path, 1)
    found = verify_directory(tmp_path)
    assert (found.head.number, found.torn) == (5, 1)


def test_what_was_gone_at_the_start_is_named_for_good(tmp_path: Path) -> None:
    write(tmp_path, 5)
    put(tmp_path, lines_of(tmp_path)[:3])
    assert broken(tmp_path) == "audit-cut"
    write(tmp_path, 2)
    found = verify_directory(tmp_path)
    assert (found.head.number, found.cut) == (6, (4,))
    segments(tmp_path)[0].unlink()
    write(tmp_path, 1)
    found = verify_directory(tmp_path)
    assert (found.first, found.cut) == (7, (7,))


def test_it_goes_on_in_the_next_file_and_the_oldest_goes(tmp_path: Path) -> None:
    write(tmp_path, 40, most=1_000, keep=3)
    files = segments(tmp_path)
    assert len(files) == 3
    assert all(path.stat().st_size <= 1_000 for path in files)
    found = verify_directory(tmp_path)
    assert found.head.number == 40
    assert found.first > 1
    assert verify(files[1:]).head == found.head
    with pytest.raises(Broken):
        verify([files[0], files[2]])
    with pytest.raises(Broken):
        verify([files[1], files[0]])


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AuditFile(tmp_path, most=1 << 20, keep=4)
    file.append({"time": "", "event": "one"})
    real, full = os.write, True

    def write(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:7]) if full else real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(AgentError) as caught:
        file.append({"time": "", "event": "two"})
    assert caught.value.reason == "audit-unwritable"
    full = False
    file.append({"time": "", "event": "three"})
    file.close()
    assert verify_directory(tmp_path).head.number == 2
    assert b"two" not in b"".join(lines_of(tmp_path))


def test_a_disk_with_room_for_the_record_and_none_for_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not written altogether is written again, and stands there once."""
    log = AuditFile(tmp_path, most=1 << 20, keep=4)
    log.append({"time": "t", "event": "started"})

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        for _ in range(2):
            with pytest.raises(AgentError) as refused:
                log.append({"time": "t", "event": "granted"})
            assert refused.value.reason == "audit-unwritable"
    log.append({"time": "t", "event": "granted"})
    log.close()
    assert verify_directory(tmp_path).head.number == 2


def test_a_disk_that_is_full_in_earnest() -> None:
    """/dev/full says ENOSPC to every write (full(4))."""
    with (
        pytest.raises(OSError, match="No space left") as caught,
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert caught.value.errno == errno.ENOSPC


def test_two_processes_do_not_write_one_log(tmp_path: Path) -> None:
    file = AuditFile(tmp_path, most=1 << 20, keep=4)
    with pytest.raises(AgentError) as caught:
        AuditFile(tmp_path, most=1 << 20, keep=4)
    assert caught.value.reason == "audit-held"
    file.close()
    AuditFile(tmp_path, most=1 << 20, keep=4).close()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"n": "x"}', b"[" * 900])
def test_a_head_that_cannot_be_read_is_no_head(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, 2)
    (tmp_path / HEAD).write_bytes(content)
    assert broken(tmp_path) == "audit-head"
    with pytest.raises(AgentError):
        AuditFile(tmp_path, most=1 << 20, keep=4)


def test_the_files_are_the_daemon_s_alone(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert segments(tmp_path)[0].stat().st_mode & 0o777 == 0o600
    (record,) = [json.loads(line) for line in lines_of(tmp_path)]
    assert (record["n"], record["prev"]) == (1, "0" * 64)
