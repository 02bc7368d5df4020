"""Which feed of several that claim a stream is tried next, and when."""

from __future__ import annotations

from typing import cast

import pytest

from dongled.agent.meetings.streams import Incoming, Sinks, Streams
from dongled.agent.sfu.api import Feed
from dongled.media.api import StreamContext
from dongled.media.inbound import InboundStats, InboundStream
from dongled.media.webrtc import IceSettings

KEY = (bytes(16), "camera")


class Counting:
    """The counters of a stream."""

    def __init__(self) -> None:
        self.came = self.opened = 0

    def stats(self) -> InboundStats:
        return InboundStats(frames_received=self.came, frames_opened=self.opened)


@pytest.mark.parametrize(
    ("keyed", "came", "opened", "leaves_after"),
    [(True, 10, 0, 1.0), (True, 9, 0, 4.0), (False, 100, 0, 4.0), (True, 0, 0, 4.0), (True, 10, 1, 4.0)],
)
def test_a_feed_that_opens_nothing_is_left(keyed: bool, came: int, opened: int, leaves_after: float) -> None:
    stream, other = Counting(), Feed("2", "", "vp8", True)
    context = StreamContext("meeting", *KEY, "vp8")
    incoming = Incoming(cast(InboundStream, stream), context, "terminal", "name", {"2": other}, "1", True)
    incoming.opened_at, incoming.keyed = 100.0, keyed
    streams = Streams(IceSettings(), lambda terminal, name: Sinks(), lambda error: None)
    streams.incoming[KEY] = incoming
    stream.came, stream.opened = came, opened
    left = [now / 10 for now in range(1000, 1045) if streams.second_choices(now / 10)]
    assert left[0] == pytest.approx(100 + leaves_after + 0.1)
    assert streams.second_choices(105) == [(other, KEY)]
