"""A status as metric families. https://prometheus.io/docs/practices/naming/

Names of meetings, streams and files are the configuration's. What peers and the SFU call themselves is made
plain and short, and there are never more than so many of them: whoever joins must not fill the memory of
whoever watches.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dongled.agent.health.registry import KINDS
from dongled.agent.status import DaemonStatus, InboundStatus, MeetingStatus, OutboundStatus
from dongled.tokens.state import TokenState

MOST_STREAMS = 64
MOST_REASONS = 64
MOST_LABEL = 64


def registry_of(status: Callable[[], DaemonStatus]) -> CollectorRegistry:
    """A registry of its own, which holds nothing of this process but what ``status`` says."""
    made = CollectorRegistry()
    made.register(_Figures(status))
    return made


class _Figures(Collector):
    def __init__(self, status: Callable[[], DaemonStatus]) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from _terminal(status)
        yield from _meetings(status.meetings)
        yield from _sent(status.meetings)
        yield from _received(status.meetings)


def plain(text: str) -> str:
    """As a label's value: printable ASCII, and no more than 64 of it."""
    return re.sub(r"[^ -~]", "_", text[:MOST_LABEL])


def _gauge(name: str, text: str, labels: Iterable[str] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"dongled_{name}", text, labels=tuple(labels))


def _counter(name: str, text: str, labels: Iterable[str] = ()) -> CounterMetricFamily:
    return CounterMetricFamily(f"dongled_{name}", text, labels=tuple(labels))


def _reasons(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    kept: dict[str, int] = {}
    for reason, count in sorted(counts.items())[:MOST_REASONS]:
        kept[plain(reason)] = kept.get(plain(reason), 0) + count
    return list(kept.items())


def _terminal(status: DaemonStatus) -> Iterator[Metric]:
    info = _gauge("info", "1; which version runs, and whose terminal.", ["version", "terminal", "name"])
    info.add_metric([status.version, plain(status.terminal), plain(status.name)], 1)
    yield info
    uptime = _gauge("uptime_seconds", "Since the daemon was started.")
    uptime.add_metric([], status.uptime)
    yield uptime
    state = _gauge("token_state", "1 for the state that the token is in.", ["state"])
    for name in (*TokenState, "none"):
        state.add_metric([name], status.token.state == name)
    yield state
    done = _counter("token_operations", "Of private keys, since the token was opened.", ["operation"])
    done.add_metric(["sign"], status.token.sign)
    done.add_metric(["derive"], status.token.derive)
    yield done
    ends = _gauge("certificate_end_timestamp_seconds", "When a certificate ends.", ["key"])
    failures = _gauge("certificate_renewal_failures", "Tries that failed, one after the other.", ["key"])
    for each in status.certificates:
        if each.until:
            ends.add_metric([each.role], round(time.time() + each.not_after))
        failures.add_metric([each.role], each.renewal_failures)
    yield from (ends, failures)
    trusted = _gauge("time_trusted", "0: nothing is granted.")
    if status.time is not None:
        trusted.add_metric([], status.time.trusted)
    yield trusted
    unknown = _gauge("revocation_unknown", "Certificates about which nobody answers.", ["reason"])
    for reason, count in _reasons(status.revocation.unknown if status.revocation else {}):
        unknown.add_metric([reason], count)
    yield unknown
    free = _gauge("disk_free_bytes", "Where state and sinks are written.", ["path"])
    size = _gauge("disk_size_bytes", "Of the same.", ["path"])
    for disk in status.disks:
        free.add_metric([plain(disk.path)], disk.free)
        size.add_metric([plain(disk.path)], disk.size)
    yield from (free, size)
    held = [each.id for each in status.warnings]
    warnings = _gauge("warnings", "How many warnings of each kind hold.", ["id"])
    for kind in KINDS:
        warnings.add_metric([kind], held.count(kind))
    yield warnings


def _meetings(meetings: Iterable[MeetingStatus]) -> Iterator[Metric]:
    joined = _gauge("meeting_joined", "1 while the terminal is in the room.", ["meeting"])
    peers = _gauge("meeting_peers", "Verified terminals in the meeting.", ["meeting"])
    stale = _gauge("meeting_peers_stale", "Those of which a stream is played behind.", ["meeting"])
    refused = _counter("meeting_refused", "Messages and feeds refused.", ["meeting", "reason"])
    alarms = _counter("meeting_alarms", "What only an attack or a defect explains.", ["meeting", "reason"])
    for meeting in meetings:
        name = [plain(meeting.name)]
        joined.add_metric(name, meeting.state == "joined")
        peers.add_metric(name, len(meeting.peers))
        stale.add_metric(name, sum(bool(peer.stale) for peer in meeting.peers))
        for reason, count in _reasons(meeting.refused):
            refused.add_metric([*name, reason], count)
        for reason, count in _reasons(meeting.alarms):
            alarms.add_metric([*name, reason], count)
    yield from (joined, peers, stale, refused, alarms)


def _sent(meetings: Iterable[MeetingStatus]) -> Iterator[Metric]:
    where = ["meeting", "stream", "to"]
    keyed = _gauge("send_keyed", "1 while somebody may watch.", where)
    fps = _gauge("send_frames_per_second", "As sent in the last two seconds.", where)
    rate = _gauge("send_bytes_per_second", "The same.", where)
    frames = _counter("send_frames", "How far frames came.", [*where, "stage"])
    dropped = _counter("send_dropped_frames", "Not sent.", [*where, "reason"])
    spent = _gauge("send_stage_seconds", "What the last frames took, on average.", [*where, "stage"])
    for meeting in meetings:
        for stream in meeting.sending[:MOST_STREAMS]:
            at = [plain(meeting.name), plain(stream.stream), plain(stream.to)]
            keyed.add_metric(at, stream.generation is not None)
            fps.add_metric(at, stream.fps)
            rate.add_metric(at, stream.bitrate / 8)
            for stage, count in _sent_frames(stream):
                frames.add_metric([*at, stage], count)
            for reason, count in _reasons(stream.dropped):
                dropped.add_metric([*at, reason], count)
            for stage, milliseconds in stream.stages.items():
                spent.add_metric([*at, stage], milliseconds / 1000)
    yield from (keyed, fps, rate, frames, dropped, spent)


def _sent_frames(stream: OutboundStatus) -> Iterator[tuple[str, int]]:
    yield "captured", stream.frames_captured
    yield "encoded", stream.frames_encoded
    yield "sealed", stream.frames_sealed
    yield "sent", stream.frames_sent


def _received(meetings: Iterable[MeetingStatus]) -> Iterator[Metric]:
    where = ["meeting", "terminal", "stream"]
    known = _gauge("receive_streams", "Streams watched, of which figures are given of 64.", ["meeting"])
    fps = _gauge("receive_frames_per_second", "As opened in the last two seconds.", where)
    rate = _gauge("receive_bytes_per_second", "The same.", where)
    frames = _counter("receive_frames", "How far frames came.", [*where, "stage"])
    failed = _counter("receive_failed_frames", "Not opened: changed, replayed, forged.", [*where, "reason"])
    skipped = _counter("receive_skipped_frames", "Opened and not shown.", [*where, "reason"])
    spent = _gauge("receive_stage_seconds", "What the last frames took, on average.", [*where, "stage"])
    for meeting in meetings:
        name = plain(meeting.name)
        known.add_metric([name], len(meeting.receiving))
        for (terminal, stream_id), stream in _distinct(meeting).items():
            at = [name, terminal, stream_id]
            fps.add_metric(at, stream.fps)
            rate.add_metric(at, stream.bitrate / 8)
            for stage, count in _received_frames(stream):
                frames.add_metric([*at, stage], count)
            for reason, count in _reasons(stream.frames_failed):
                failed.add_metric([*at, reason], count)
            for reason, count in _reasons(stream.frames_skipped):
                skipped.add_metric([*at, reason], count)
            for stage, milliseconds in stream.stages.items():
                spent.add_metric([*at, stage], milliseconds / 1000)
    yield from (known, fps, rate, frames, failed, skipped, spent)


def _received_frames(stream: InboundStatus) -> Iterator[tuple[str, int]]:
    yield "received", stream.frames_received
    yield "opened", stream.frames_opened
    yield "decoded", stream.frames_decoded


def _distinct(meeting: MeetingStatus) -> dict[tuple[str, str], InboundStatus]:
    """Of a terminal that came back and has not been given up yet the newer session."""
    found: dict[tuple[str, str], InboundStatus] = {}
    for stream in meeting.receiving:
        key = plain(stream.terminal), plain(stream.stream)
        if key in found or len(found) < MOST_STREAMS:
            found[key] = stream
    return found
