"""A real journald takes our entries, and journalctl finds them by their fields."""

from __future__ import annotations

from pathlib import Path

from dongled.agent.logs.events import Event
from support.journald import entries_of

PROGRAM = r"""
import logging, os
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
from dongled.agent.logs.events import Event, about
from dongled.agent.logs.setup import set_up
set_up(verbose=False)
log = logging.getLogger("dongled.meeting.lobby")
evil = "CN=x\nMESSAGE_ID=0\nDONGLED_PEER=somebody else\x1b[2J"
log.info("joined: %s", evil, extra=about(Event.PEER_JOINED, peer="urn:uuid:1", subject=evil))
log.error("large: %s", "y" * 1_000_000, extra=about(Event.ALARM, peer="urn:uuid:1"))
log.debug("not told", extra=about(Event.ALARM, peer="urn:uuid:1"))
"""


def test_entries_are_found_by_their_fields_and_none_was_forged(tmp_path: Path) -> None:
    joined, large = entries_of(tmp_path, PROGRAM, "DONGLED_PEER=urn:uuid:1", 2)
    assert (tmp_path / "stderr").read_text() == ""
    assert joined["MESSAGE_ID"] == Event.PEER_JOINED.value
    assert joined["DONGLED_EVENT"] == "peer_joined"
    assert joined["SYSLOG_IDENTIFIER"] == "dongled"
    assert joined["PRIORITY"] == "6"
    # What is not printable text would be shown as [blob data].
    assert joined["MESSAGE"].startswith("dongled.meeting.lobby: joined: CN=x\\u000aMESSAGE_ID=0")
    assert large["MESSAGE_ID"] == Event.ALARM.value
    assert large["MESSAGE"].startswith("dongled.meeting.lobby: large: yyy")
    assert len(large["MESSAGE"]) > 250_000
