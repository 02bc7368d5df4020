"""A private session between two of three terminals in a real meeting, driven by the command line."""

from __future__ import annotations

import subprocess

import pytest

from dongled.agent.demo.commands import PROGRAM
from dongled.agent.status import MeetingStatus
from integration.conftest import Company, Launch
from integration.running import BUSY, Running, opened

pytestmark = pytest.mark.timeout(300)

SCREEN = '[[stream]]\nid = "screen"\nsource = "testsrc"\nwidth = 320\nheight = 240\nfps = 15\n\n[[meeting]]'


def private(of: Running, *words: str) -> str:
    """What the command prints, or its complaint."""
    done = subprocess.run(
        [PROGRAM, "private", *words, "--socket", of.folder / "control.sock"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return done.stdout or done.stderr


def opened_privately(meeting: MeetingStatus) -> int:
    return sum(stream.frames_opened for stream in meeting.receiving if stream.stream == "private-screen")


@pytest.mark.property("P1")
@pytest.mark.property("P3")
def test_the_invited_alone_sees_it_until_it_ends(company: Company, launch: Launch) -> None:
    other = company.cast("other")
    one = f'allow-viewers = ["{company.viewer.urn}"]'
    changes = {
        one: f'allow-viewers = ["{company.viewer.urn}", "{other.urn}"]',
        "[[meeting]]": SCREEN,
        'publish = ["camera"]': 'publish = ["camera"]\nprivate = ["screen"]',
    }
    camera, invited, third = launch("camera", changes=changes), launch("viewer"), launch("other")
    for viewer in (invited, third):
        viewer.until(lambda meeting: opened(meeting) > 0)

    assert "no-such-peer" in private(camera, "invite", "nobody")
    assert "no-such-stream" in private(camera, "invite", company.viewer.urn, "--stream", "camera")
    assert "There is no invitation" in private(third, "accept")
    private(camera, "invite", company.viewer.urn)
    pending = invited.until(lambda meeting: meeting.private).private[0]
    assert (pending.state, pending.watches, pending.shows) == ("invited", ["screen"], [])
    assert [stream.stream for stream in camera.status().meetings[0].sending] == ["camera"]
    private(invited, "accept")

    # A busy machine may be behind for a moment.
    seen = invited.until(
        lambda meeting: opened_privately(meeting) > 45 and not any(each.stale for each in meeting.private)
    )
    (partner,) = seen.private
    assert partner.state == "active"
    assert (partner.roles, partner.assurance) == (["publisher"], "software")
    for stream in seen.receiving:
        assert (stream.subject, stream.roles, stream.assurance) == (
            partner.subject,
            partner.roles,
            partner.assurance,
        )
    showing = {stream.stream: stream for stream in camera.status().meetings[0].sending}
    assert showing["private-screen"].frames_sealed > 45
    assert (showing["private-screen"].to, showing["camera"].to) == (company.viewer.urn, "")
    outside = third.status().meetings[0]
    assert outside.private == []
    assert [stream.stream for stream in outside.receiving] == ["camera"]
    assert outside.messages_received["private"] >= 2
    assert not outside.refused.keys() - BUSY

    watched = opened(outside)
    private(invited, "end")
    camera.until(lambda meeting: not meeting.private and len(meeting.sending) == 1)
    invited.until(lambda meeting: [stream.stream for stream in meeting.receiving] == ["camera"])
    third.until(lambda meeting: opened(meeting) > watched + 30)
    assert "There is no invitation" in private(camera, "end")
