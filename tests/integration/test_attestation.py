"""A camera that grants keys only to terminals whose keys a known maker's token made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from dongled.agent.demo.commands import dongled
from integration.card_terminal import YKCS11, CardTerminal, make_card_terminal
from integration.conftest import Company
from integration.running import Running, opened
from support.card import pcscd
from support.janus import JanusServer

pytestmark = [pytest.mark.timeout(300), pytest.mark.property("P4")]


@pytest.fixture
def attested(company: Company, tmp_path: Path) -> Iterator[CardTerminal]:
    """A viewer whose keys were generated on a card that attests to it."""
    with pcscd.running(tmp_path) as reader:
        made = make_card_terminal(tmp_path, "viewer", "viewer", company.authority, reader)
        yield made
        made.card.inserted.pull()


def test_only_an_attested_viewer_sees(
    company: Company, attested: CardTerminal, janus: JanusServer, tmp_path: Path
) -> None:
    root = tmp_path / "maker.pem"
    root.write_bytes(attested.card.applet.attestation.root.public_bytes(Encoding.PEM))
    login: list[str | Path] = [
        "--module",
        YKCS11,
        "--uri",
        attested.cast.uri,
        "--pin-file",
        attested.cast.folder / "pin",
    ]
    for role in ("identity", "data"):
        said = dongled("token", "attest", *login, "--role", role, "--root", root, env=attested.cast.env)
        assert said["serial"] == 0x00C0FFEE
        assert json.loads(json.dumps(said))["firmware"] == "5.4.3"

    room = f"room-{next(company.numbers)}"
    requires = f'[trust]\nrequire-attestation = true\nattestation-roots = ["{root}"]'
    both = replace(company, viewer=attested.cast)
    known = f'"{attested.cast.urn}"'
    camera = Running.start(
        both, janus.url, room, "camera", tmp_path / "run-camera",
        {"[trust]": requires, known: f'{known}, "{company.viewer.urn}"'},
    )  # fmt: skip
    on_card = Running.start(both, janus.url, room, "viewer", tmp_path / "run-card", attested.changes)
    in_software = Running.start(company, janus.url, room, "viewer", tmp_path / "run-software", {})
    try:
        on_card.until(lambda meeting: opened(meeting) > 10)
        camera.until(lambda meeting: meeting.refused.get("not-attested"))
        assert opened(in_software.until(lambda meeting: meeting.peers)) == 0
    finally:
        for running in (in_software, on_card, camera):
            running.stop()
