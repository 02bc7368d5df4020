"""Each rule by a status that is spoiled in one place, and none for a status in which all is well."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dongled.agent.health import registry
from dongled.agent.health.rules import RULES, Condition
from dongled.agent.status import CertificateStatus, DaemonStatus, TimeStatus
from dongled.config import checks
from support.statuses import DAY, well

REPOSITORY = Path(__file__).parents[3]


def conditions(now: DaemonStatus, before: DaemonStatus | None = None) -> list[Condition]:
    return [condition for rule in RULES for condition in rule(now, before)]


def moved_on(status: DaemonStatus) -> DaemonStatus:
    for meeting in status.meetings:
        for stream in meeting.sending:
            stream.frames_captured += 60
    return status


def test_where_all_is_well_nothing_is_said() -> None:
    assert conditions(well()) == []
    assert conditions(moved_on(well()), well()) == []


def certificate(status: DaemonStatus) -> CertificateStatus:
    return status.certificates[1]


def token(state: str, why: str = "gone [token-absent]") -> Callable[[DaemonStatus], object]:
    def spoil(status: DaemonStatus) -> None:
        status.token.state, status.token.why = state, why

    return spoil


def last(days: float, life: float, renewal: str = "off") -> Callable[[DaemonStatus], object]:
    def spoil(status: DaemonStatus) -> None:
        each = certificate(status)
        each.not_after, each.life, each.renewal = days * DAY, life * DAY, renewal

    return spoil


def touch(status: DaemonStatus) -> None:
    status.touch_wanted = ["CN=camera"]


def failing(status: DaemonStatus) -> None:
    each = certificate(status)
    each.renewal, each.renewal_failures, each.renewal_why = "failing", 3, "no answer [est-unreachable]"


def time(reason: str, source: str = "system") -> Callable[[DaemonStatus], object]:
    def spoil(status: DaemonStatus) -> None:
        status.time = TimeStatus(source, trusted=False, reason=reason, why="the clock says 1970")

    return spoil


def unreachable(status: DaemonStatus) -> None:
    assert status.revocation
    status.revocation.unknown = {"revocation-unreachable": 2}


def unrecorded(status: DaemonStatus) -> None:
    status.audit_failed = "the audit log in /var/lib/dongled cannot be written"


def lost(status: DaemonStatus) -> None:
    status.meetings[0].state, status.meetings[0].why = "waiting", "refused [sfu-unreachable]"


def stale(status: DaemonStatus) -> None:
    status.meetings[0].peers[0].stale = ["front"]


def alarm(seconds: float) -> Callable[[DaemonStatus], object]:
    def spoil(status: DaemonStatus) -> None:
        status.meetings[0].alarms, status.meetings[0].alarm_seconds = {"rollback": 1}, seconds

    return spoil


def disk(free: int, size: int) -> Callable[[DaemonStatus], object]:
    def spoil(status: DaemonStatus) -> None:
        status.disks[0].free, status.disks[0].size = free, size

    return spoil


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (token("ABSENT"), ("token-absent", "", "the token is ABSENT: gone [token-absent]")),
        (token("LOCKED"), ("token-locked", "", "LOCKED")),
        (token("PIN_BLOCKED"), ("token-blocked", "", "PIN_BLOCKED")),
        (token("WRONG_TOKEN"), ("token-wrong", "", "WRONG_TOKEN")),
        (token("FAULT"), ("token-fault", "", "FAULT")),
        (token("BUSY"), ("token-fault", "", "BUSY")),
        (token("FAULT", "none [no-certificate]"), ("certificate-missing", "", "none")),
        (last(-0.1, 90), ("certificate-expired", "data", "ended 2027")),
        (last(13, 90), ("certificate-expiring", "data", "in 13.0 days")),
        # Of a long life the part counts, and of a short one the days.
        (last(40, 365), ("certificate-expiring", "data", "in 40.0 days")),
        (last(10, 90, "planned"), ("certificate-expiring", "data", "in 10.0 days")),
        (failing, ("renewal-failing", "data", "3 tries: no answer [est-unreachable]")),
        (time("time-below-floor"), ("time-not-trusted", "", "1970 [time-below-floor]")),
        (time("time-untrusted", "operator"), ("time-not-trusted", "", "1970 [time-untrusted]")),
        (unreachable, ("revocation-unreachable", "", "revocation-unreachable 2")),
        (unrecorded, ("audit-failing", "", "cannot be written")),
        (touch, ("touch-wanted", "CN=camera", "CN=camera wants somebody present")),
        (lost, ("meeting-not-joined", "lobby", "refused [sfu-unreachable]")),
        (stale, ("peer-stale", "lobby " + "11" * 16 + " front", "front is behind")),
        (alarm(3599), ("alarm", "lobby", "rollback 1")),
        (disk(63 << 20, 65 << 20), ("disk-nearly-full", "/var/lib/dongled", "63 MiB")),
        (disk(1 << 29, 20 << 30), ("disk-nearly-full", "/var/lib/dongled", "512 MiB")),
    ],
)
def test_what_is_wrong_is_said(
    spoil: Callable[[DaemonStatus], object], expected: tuple[str, str, str]
) -> None:
    status = well()
    spoil(status)
    found = conditions(status)
    kind, about, text = expected
    assert [(each.kind.id, each.about) for each in found] == [(kind, about)]
    assert text in found[0].text


@pytest.mark.parametrize(
    "spoil",
    [
        token("none", ""),
        last(15, 90),
        # It is renewed at a fifth of its life; before two tries have failed nothing is wrong.
        last(13, 90, "planned"),
        last(0.2, 1, "planned"),
        time("time-untrusted", "untrusted"),
        alarm(3601),
        disk(1 << 29, 1 << 30),
        disk(2 << 30, 1000 << 30),
    ],
)
def test_what_is_not_wrong_is_not_said(spoil: Callable[[DaemonStatus], object]) -> None:
    status = well()
    spoil(status)
    assert conditions(status) == []


def test_a_source_is_silent_that_gave_no_picture_since_the_last_look() -> None:
    found = conditions(well(), well())
    assert [(each.kind, each.about) for each in found] == [(registry.SOURCE_SILENT, "camera")]


def test_a_source_of_another_session_or_of_a_meeting_that_is_not_joined_is_not_silent() -> None:
    before, now = well(), well()
    before.meetings[0].session = "33" * 16
    assert conditions(now, before) == []
    now = well()
    now.meetings[0].state = "muted"
    assert conditions(now, well()) == []


# --- the registry --------------------------------------------------------------------------------------


def test_every_warning_of_the_settings_is_registered_and_no_other() -> None:
    source = Path(checks.__file__).read_text()
    raised = set(re.findall(r'SettingsWarning\(\s*"([a-z-]+)"', source))
    assert raised == {kind.id for kind in registry.SETTINGS}


def test_live_ones_have_a_hint_and_their_own_id() -> None:
    assert all(kind.hint for kind in registry.LIVE)
    assert len(registry.KINDS) == len(registry.SETTINGS) + len(registry.LIVE)


def test_the_manual_lists_each_warning() -> None:
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    section = manual.split("\n### Warnings\n", 1)[1].split("\n#", 1)[0]
    listed = [
        name for line in re.findall(r"^\|(.*?)\|", section, re.M) for name in re.findall(r"`(.*?)`", line)
    ]
    assert sorted(listed) == sorted(registry.KINDS)
