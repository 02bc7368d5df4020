"""What Prometheus is told: a well-formed exposition of the status, within bounds whoever joins."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dongled.agent.health.registry import KINDS
from dongled.agent.metrics.figures import MOST_LABEL, MOST_REASONS, MOST_STREAMS, registry_of
from dongled.agent.status import DaemonStatus, InboundStatus, RevocationStatus, WarningStatus
from support.statuses import CAMERA, DAY, VIEWER, receiving, sending, well

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana.json"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def exposition(status: DaemonStatus) -> str:
    return generate_latest(registry_of(lambda: status)).decode()


def samples(status: DaemonStatus) -> Samples:
    """Read back by Prometheus' own parser; no two have the same name and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition(status)):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Samples, name: str, /, **labels: str) -> float:
    return found[f"dongled_{name}", tuple(sorted(labels.items()))]


def test_what_status_shows_is_there_as_numbers() -> None:
    status = well()
    status.warnings = [WarningStatus("alarm", "", ""), WarningStatus("alarm", "", "")]
    status.revocation = RevocationStatus("either", {"ocsp-stale": 2})
    status.meetings[0].refused, status.meetings[0].alarms = {"chain-untrusted": 5}, {"rollback": 1}
    found = samples(status)
    assert value(found, "info", version="0.1.0", terminal=CAMERA, name="door-camera") == 1
    assert value(found, "uptime_seconds") == 90_061
    assert value(found, "token_state", state="READY") == 1
    assert value(found, "token_state", state="ABSENT") == 0
    assert value(found, "token_operations_total", operation="derive") == 40
    end = value(found, "certificate_end_timestamp_seconds", key="identity")
    assert end == pytest.approx(time.time() + 80 * DAY, abs=60)
    assert value(found, "time_trusted") == 1
    assert value(found, "revocation_unknown", reason="ocsp-stale") == 2
    assert value(found, "disk_free_bytes", path="/var/lib/dongled") == 20 << 30
    assert value(found, "warnings", id="alarm") == 2
    assert sum(name == "dongled_warnings" for name, _ in found) == len(KINDS)
    assert value(found, "meeting_joined", meeting="lobby") == 1
    assert value(found, "meeting_peers", meeting="lobby") == 1
    assert value(found, "meeting_refused_total", meeting="lobby", reason="chain-untrusted") == 5
    assert value(found, "meeting_alarms_total", meeting="lobby", reason="rollback") == 1
    out = {"meeting": "lobby", "stream": "camera", "to": ""}
    assert value(found, "send_keyed", **out) == 1
    assert value(found, "send_frames_per_second", **out) == 29.97
    assert value(found, "send_frames_total", **out, stage="sealed") == 8999
    assert value(found, "send_dropped_frames_total", **out, reason="queue-full") == 2
    assert value(found, "send_stage_seconds", **out, stage="encode") == 0.0085
    came = {"meeting": "lobby", "terminal": VIEWER, "stream": "front"}
    assert value(found, "receive_bytes_per_second", **came) == 237_500
    assert value(found, "receive_frames_total", **came, stage="opened") == 499
    assert value(found, "receive_failed_frames_total", **came, reason="bad-signature") == 1
    assert value(found, "receive_skipped_frames_total", **came, reason="late") == 1
    assert value(found, "receive_stage_seconds", **came, stage="decode") == 0.004


def test_a_terminal_without_a_token_has_figures_too() -> None:
    status = well()
    status.token.state, status.time, status.revocation, status.certificates = "none", None, None, []
    assert value(samples(status), "token_state", state="none") == 1


def stream(terminal: str, stream_id: str = "front", opened: int = 1) -> InboundStatus:
    made = receiving()
    made.terminal, made.stream, made.frames_opened = terminal, stream_id, opened
    return made


def test_whoever_joins_makes_no_more_series_than_so_many() -> None:
    status = well()
    meeting = status.meetings[0]
    meeting.receiving = [stream(f"urn:uuid:{number}") for number in range(1000)]
    meeting.refused = {f"reason-{number}": 1 for number in range(1000)}
    few = len(samples(well()))
    found = samples(status)
    assert value(found, "receive_streams", meeting="lobby") == 1000
    per_stream = sum(name.startswith("dongled_receive_") for name, _ in samples(well())) - 1
    assert len(found) == few + (MOST_STREAMS - 1) * per_stream + MOST_REASONS


def test_a_stream_that_is_shown_to_two_alone_is_two_series() -> None:
    status = well()
    status.meetings[0].sending += [replace(sending(), to=peer, fps=fps) for peer, fps in (("a", 1), ("b", 2))]
    found = samples(status)
    for peer, fps in (("", 29.97), ("a", 1), ("b", 2)):
        where = {"meeting": "lobby", "stream": "camera", "to": peer}
        assert value(found, "send_frames_per_second", **where) == fps


def test_what_others_call_themselves_forges_no_series() -> None:
    status = well()
    evil = 'x"} 1\ndongled_time_trusted 0\n# TYPE \\ \x1b[2J\u202e' + "y" * 500
    status.meetings[0].receiving = [stream(evil, evil), stream(evil + "z", evil, opened=7)]
    status.meetings[0].refused = {evil: 1, evil + "z": 2}
    status.name = evil
    found = samples(status)
    assert value(found, "time_trusted") == 1
    for name, labels in found:
        assert name in {each for each, _ in samples(well())} | {"dongled_meeting_refused_total"}
        for _, label in labels:
            assert len(label) <= MOST_LABEL
            assert label.isascii()
            assert label.isprintable()
    # Both became the same: the newer session of the two is told, and counts are summed.
    opened = [number for (name, labels), number in found.items() if ("stage", "opened") in labels]
    assert opened == [7]
    assert [number for (name, _), number in found.items() if name == "dongled_meeting_refused_total"] == [3]


def test_no_secret_and_no_key_is_in_it() -> None:
    text = exposition(well())
    assert "pkcs11:" not in text
    assert "ab" * 32 not in text


def queried() -> set[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [each["query"] for each in dashboard["templating"]["list"]]
    return {name for query in queries for name in re.findall(r"dongled_[a-z_]+", query)}


def test_the_dashboard_asks_for_what_there_is_and_shows_all_of_it() -> None:
    status = well()
    status.meetings[0].refused = status.meetings[0].alarms = {"x": 1}
    status.revocation = RevocationStatus("either", {"x": 1})
    there = {name for name, _ in samples(status)}
    assert queried() <= there
    assert there - queried() == {
        "dongled_send_keyed",
        "dongled_send_frames_total",
        "dongled_receive_frames_total",
        "dongled_receive_streams",
    }
