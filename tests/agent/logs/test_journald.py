"""journald's native protocol, byte by byte: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""

from __future__ import annotations

import array
import contextlib
import fcntl
import io
import logging
import os
import socket
import struct
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.agent.logs.events import LONGEST, Event, about
from dongled.agent.logs.journald import JournalHandler, encode, is_our_stderr
from dongled.agent.logs.setup import OneLine

REPOSITORY = Path(__file__).parents[3]
EVIL = "CN=x\nMESSAGE_ID=0\nDONGLED_PEER=somebody else\x1b[2J\r\u2028y\x85z\u202e\0"


def fields(datagram: bytes) -> list[tuple[str, bytes]]:
    """Read as the specification says, and by nobody's code but this."""
    found = []
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found.append((name.decode("ascii"), value))
        datagram = rest
    return found


class Journal:
    """The journal's socket, in a folder of the test's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def entry(self) -> dict[str, str]:
        data, passed, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, carried in passed:
            (file,) = array.array("i", carried)
            assert data == b""
            # The journal takes no file that somebody could change while it reads (sd-journal's rule).
            assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
            data = os.pread(file, os.fstat(file).st_size, 0)
            os.close(file)
        read = fields(data)
        assert len(dict(read)) == len(read)
        return {name: value.decode() for name, value in read}

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "socket")
    yield made
    made.close()


@pytest.fixture
def log(journal: Journal) -> Iterator[logging.Logger]:
    handler = JournalHandler(journal.path)
    handler.setFormatter(OneLine("%(name)s: %(message)s"))
    logger = logging.Logger("dongled.test")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_an_entry_has_the_journals_fields_and_ours(journal: Journal, log: logging.Logger) -> None:
    log.warning("left: %s", "x", extra=about(Event.PEER_LEFT, peer="urn:uuid:1", meeting="lobby", reason=""))
    entry = journal.entry()
    assert int(entry.pop("CODE_LINE")) > 0
    assert Path(entry.pop("CODE_FILE")) == Path(__file__)
    assert entry == {
        "MESSAGE": "dongled.test: left: x",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "dongled",
        "CODE_FUNC": "test_an_entry_has_the_journals_fields_and_ours",
        "LOGGER": "dongled.test",
        "MESSAGE_ID": Event.PEER_LEFT.value,
        "DONGLED_EVENT": "peer_left",
        "DONGLED_PEER": "urn:uuid:1",
        "DONGLED_MEETING": "lobby",
    }


@pytest.mark.parametrize(("level", "priority"), [(50, "2"), (40, "3"), (30, "4"), (20, "6"), (10, "7")])
def test_levels_are_syslogs(journal: Journal, log: logging.Logger, level: int, priority: str) -> None:
    log.log(level, "x")
    assert journal.entry()["PRIORITY"] == priority


def test_others_words_forge_no_field_and_no_line(journal: Journal, log: logging.Logger) -> None:
    log.warning("%s", EVIL, extra=about(Event.PEER_JOINED, subject=EVIL, peer="urn:uuid:1"))
    entry = journal.entry()
    assert (entry["MESSAGE_ID"], entry["DONGLED_PEER"]) == (Event.PEER_JOINED.value, "urn:uuid:1")
    for name in ("MESSAGE", "DONGLED_SUBJECT"):
        assert entry[name].isprintable()
        assert "CN=x" in entry[name]


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,63}", fullmatch=True), st.text(), max_size=5))
def test_any_text_comes_back_as_it_was(entry: dict[str, str]) -> None:
    expected = {name: text.encode("utf-8", "backslashreplace") for name, text in entry.items()}
    assert dict(fields(encode(entry))) == expected


@pytest.mark.parametrize("name", ["", "_PID", "lower", "A=B", "A\nB", "1A", "A" * 65])
def test_a_name_that_the_journal_would_not_take_is_a_defect(name: str) -> None:
    with pytest.raises(ValueError, match="no field"):
        encode({name: "x"})


def test_a_traceback_stays_within_its_entry(journal: Journal, log: logging.Logger) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("it broke")
    first, *rest = journal.entry()["MESSAGE"].split("\n")
    assert first == "dongled.test: it broke"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert any("ValueError: CN=x" in line for line in rest)


def test_what_no_datagram_carries_travels_in_sealed_memory(journal: Journal, log: logging.Logger) -> None:
    # Beyond what the kernel lets a datagram be (socket(7), SO_SNDBUF), and cut at what the journal is given.
    log.info("%s", "x" * 1_000_000)
    assert 250_000 < len(journal.entry()["MESSAGE"]) <= 1 << 18
    log.info("small again")
    assert journal.entry()["MESSAGE"] == "dongled.test: small again"


def test_what_the_journal_does_not_take_is_on_standard_error(
    journal: Journal, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.close()
    log.error("%s", EVIL)
    text = capsys.readouterr().err
    # sd-daemon(3): the level in front of the line.
    assert text.startswith("<3>dongled.test: CN=x")
    assert text.count("\n") == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_journal_that_hangs_or_is_gone_holds_nobody_up(
    journal: Journal, log: logging.Logger, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    # Standard error is a stream to the same journal.
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 1000)
    ours.setblocking(True)
    if gone:
        theirs.close()
    kept = os.dup(2)
    with ours, theirs, open(2, "w", buffering=1, closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        os.dup2(ours.fileno(), 2)
        journal.close()
        try:
            writing = threading.Thread(target=log.error, args=("x",), daemon=True)
            writing.start()
            writing.join(20)
            assert not writing.is_alive()
        finally:
            theirs.close()  # whoever is stuck gets away
            os.dup2(kept, 2)
            os.close(kept)


def test_only_a_standard_error_that_is_the_journal_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        status = os.fstat(file.fileno())
        assert is_our_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        # Inherited by something whose standard error was turned elsewhere.
        assert not is_our_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_our_stderr({})
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not is_our_stderr({"JOURNAL_STREAM": "1:1"})


# --- events --------------------------------------------------------------------------------------------


def test_ids_of_events_are_uuids_each_of_its_own() -> None:
    assert len({event.value for event in Event}) == len(Event)
    assert all(uuid.UUID(event.value).hex == event.value for event in Event)


def test_the_manual_lists_each_event() -> None:
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    listed = {
        event.name: event.value
        for event in Event
        if f"| `{event.name.lower()}` | `{event.value}` |" in manual
    }
    assert listed == {event.name: event.value for event in Event}


def test_ones_own_words_are_cut() -> None:
    assert len(about(Event.ALARM, reason="x" * 10_000)["journal"]["DONGLED_REASON"]) == LONGEST


# --- text ----------------------------------------------------------------------------------------------


def test_on_a_terminal_a_record_is_a_line() -> None:
    record = logging.LogRecord("dongled", logging.INFO, "", 0, "%s", (EVIL,), None)
    text = OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s").format(record)
    assert text.isprintable()
    assert "INFO dongled: CN=x\\u000aMESSAGE_ID=0\\u000a" in text
