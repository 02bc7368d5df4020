"""A certificate revoked in a live meeting: its terminal is blind as soon as the list says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from dongled.agent.demo.commands import dongled
from integration.conftest import Company, Launch
from integration.running import opened, sending

pytestmark = pytest.mark.timeout(300)


@pytest.mark.property("P3")
@pytest.mark.property("P6")
def test_a_viewer_revoked_in_mid_meeting_loses_its_keys(
    company: Company, launch: Launch, tmp_path: Path
) -> None:
    crl, register = tmp_path / "root.crl", tmp_path / "register.json"
    authority: list[str | Path] = [*company.authority.options, "--register", register, "--output", crl]
    dongled("ca", "crl", *authority, env=company.authority.env)
    asks = {
        'revocation = "off"': f'revocation = "crl"\nrevocation-crls = ["{crl}"]\nrevocation-refresh = 5',
    }
    camera, viewer = launch("camera", changes=asks), launch("viewer")
    viewer.until(lambda meeting: opened(meeting) > 0)

    certificate = company.viewer.folder / "identity.pem"
    dongled("ca", "revoke", *authority, "--certificate", certificate, env=company.authority.env)
    camera.until(lambda meeting: meeting.refused.get("revoked"))
    meeting = camera.until(lambda meeting: sending(meeting).generation is None)
    sealed = sending(meeting).frames_sealed
    # It is still there, and asks, and gets nothing.
    meeting = camera.until(lambda meeting: meeting.refused["revoked"] > 1)
    assert (meeting.state, sending(meeting).frames_sealed) == ("joined", sealed)
    assert opened(viewer.status().meetings[0]) <= sealed
