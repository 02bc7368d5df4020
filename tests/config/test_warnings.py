"""What is allowed and weak is told, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.files import TEXT, VIEWER, write
from dongled.config.api import load, settings_warnings

ENROLMENT = '[enrolment]\nurl = "https://est"\nca-file = "root.pem"\n'


@pytest.mark.parametrize(
    ("old", "new", "ids"),
    [
        ("", "", set()),
        ('"system"', '"untrusted"', {"time-source-untrusted"}),
        ("wss://sfu.example.com", "ws://192.0.2.7:8188", {"sfu-unencrypted"}),
        ("wss://sfu.example.com", "ws://127.0.0.1:8188", set()),
        ("wss://sfu.example.com", "ws://[::1]:8188", set()),
        ("wss://sfu.example.com", "ws://localhost", set()),
        ("wss://sfu.example.com", "ws://localhost.example.com", {"sfu-unencrypted"}),
        ("room = 1234", 'room = 1\nencryption = "plain"', {"plain-meeting"}),
        (f'allow-viewers = ["{VIEWER}"]', "", {"nobody-may-view"}),
        (f'allow-viewers = ["{VIEWER}"]', 'allow-viewers = ["*"]', {"anybody-may-view"}),
        (f'allow-publishers = ["{VIEWER}"]', "", {"nobody-may-publish"}),
        (f'allow-publishers = ["{VIEWER}"]', 'allow-publishers = ["*"]', set()),
        ("time-source", 'minimum-assurance = "software"\ntime-source', {"assurance-software"}),
        ("time-source", 'revocation = "off"\ntime-source', {"revocation-off"}),
        ("time-source", "revocation-grace = 60\ntime-source", {"revocation-grace"}),
        ('pin-file = "secrets/pin"', "pin-prompt = true", {"pin-prompt"}),
        ("[[stream]]", f"{ENROLMENT}[[stream]]", {"enrolment-anonymous"}),
        ("[[stream]]", f'{ENROLMENT}password-file = "secrets/pin"\n[[stream]]', set()),
    ],
)
def test_each_warning(old: str, new: str, ids: set[str], tmp_path: Path) -> None:
    text = TEXT.replace(old, new, 1) if old else TEXT
    warnings = settings_warnings(load(write(tmp_path, text), {}, {}))
    expected = ids if '"untrusted"' in text or '"plain"' in text else ids | {"time-source-system"}
    assert {warning.id for warning in warnings} == expected
    assert all(warning.text and warning.hint for warning in warnings)
