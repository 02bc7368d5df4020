"""What `dongled status` prints: everything, within 80 columns, and in nobody else's hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dongled.agent.cli.show_status import brief, lines
from dongled.agent.status import (
    DaemonStatus,
    PrivateSessionStatus,
    RevocationStatus,
    TimeStatus,
    WarningStatus,
)
from support.statuses import DAY, VIEWER, well


def unfolded(status: DaemonStatus) -> str:
    return " ".join("\n".join(lines(status, 80)).split())


def test_all_that_is_known_is_shown() -> None:
    text = unfolded(well())
    for part in (
        "door-camera",
        "up 1 d 1:01:01",
        "READY pkcs11:token=terminal;serial=0123456789abcdef",
        "signed 12, derived 40",
        "CN=door-camera,O=Example until 2027-02-11T10:00+00:00 (80.0 days)",
        "trusted (system)",
        "lobby encrypted joined for 1:02:03",
        f"CN=control-room,O=Example {VIEWER}",
        "publisher, viewer hardware live has keys of camera",
        "camera generation 3 30.0 fps, 2.01 Mbit/s sealed 8999",
        "ms: capture 1.2, encode 8.5, seal 0.1, send 0.4",
        "dropped: queue-full 2",
        "front generation 7 30.0 fps, 1.90 Mbit/s opened 499",
        f"from {VIEWER} CN=control-room,O=Example publisher, viewer hardware",
        "ms: receive 0.2, open 0.3, decode 4.0",
        "FAILED: bad-signature 1",
        "not shown: late 1",
    ):
        assert part in text
    assert "keys-dropped" not in text
    assert "WARNING" not in text


def test_who_is_at_the_other_end_of_a_private_session_is_shown() -> None:
    status = well()
    status.meetings[0].private = [
        PrivateSessionStatus(
            "11" * 16, VIEWER, "CN=nurse", "invited", 90.0, ["screen"], [], [], ["viewer"], "hardware"
        )
    ]
    assert f"invited CN=nurse {VIEWER} viewer hardware lapses in 1:30 shows screen" in unfolded(status)


def test_what_is_wrong_is_shown_with_what_to_do() -> None:
    status = well()
    status.time = TimeStatus("system", False, "time-below-floor", "the clock says 1970-01-01 00:00")
    status.revocation = RevocationStatus("either", {"revocation-unreachable": 2})
    status.token.state, status.token.why = "ABSENT", "the token was removed [token-absent]"
    expired, renewed = status.certificates
    expired.not_after = -1.0
    renewed.renewal, renewed.renewal_failures, renewed.renewal_due = "failing", 3, 2 * DAY
    renewed.renewal_why = "no answer [est-unreachable]"
    meeting = status.meetings[0]
    meeting.state, meeting.why, meeting.refused = "waiting", "it closed [closed]", {"a": 1, "b": 7, "c": 0}
    meeting.alarms, meeting.peers[0].live, meeting.peers[0].stale = {"rollback": 1}, False, ["front"]
    meeting.sending[0].generation = None
    status.warnings = [WarningStatus("token-absent", "the token is ABSENT", "insert it", "x", 61.0)]
    text = unfolded(status)
    for part in (
        "NOT TRUSTED, so nothing is granted: the clock says 1970-01-01 00:00 [time-below-floor]",
        "either nobody answers: revocation-unreachable 2",
        "ABSENT the token was removed [token-absent]",
        "(EXPIRED)",
        "renewal failing after 3 failures, next in 2 d 0:00:00 no answer [est-unreachable]",
        "waiting it closed [closed]",
        "b 7 a 1",
        "ALARMS rollback 1",
        "SILENT STALE: front",
        "camera no key",
        "WARNING token-absent (x) for 1:01: the token is ABSENT -> insert it",
    ):
        assert part in text


@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    status = well()
    status.meetings[0].peers[0].subject = "CN=" + "very-long" * 30
    status.meetings[0].state, status.meetings[0].why = "waiting", "one word after another " * 12
    status.token.uri = "pkcs11:token=" + "x" * 200
    shown = lines(status, width)
    assert max(map(len, shown)) <= width
    assert "very-long" * 30 in "".join(line.strip() for line in shown)


def test_a_peers_words_move_no_cursor_and_forge_no_line() -> None:
    status = well()
    peer = status.meetings[0].peers[0]
    peer.subject = "CN=\x1b[2J\nWARNING   \x07\u202eevil\x9b1m\u2028x"
    status.meetings[0].why = status.meetings[0].name = peer.subject
    for shown in ("\n".join(lines(status, 80)), brief(status)):
        assert all(each.isprintable() or each == "\n" for each in shown)
        assert not any(line.startswith("WARNING") for line in shown.splitlines())


def test_a_line_says_what_matters() -> None:
    status = well()
    status.warnings = [WarningStatus("b", "", ""), WarningStatus("a", "", ""), WarningStatus("b", "", "")]
    assert brief(status, datetime(2027, 1, 2, tzinfo=UTC)) == (
        "2027-01-02T00:00:00+00:00  token READY; lobby joined, 1 peers; send camera 30.0 fps, 2.01 Mbit/s; "
        "watch front 30.0 fps, 1.90 Mbit/s; warnings a b"
    )
