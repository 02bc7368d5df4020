"""docs/certificates.md says what the code does: its arc, its OIDs, its reasons."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from dongled.agent.policy import profile, verifier
from dongled.agent.policy.certificates import REASONS
from dongled.tokens.fido import presence
from support.openssl import DOCUMENT

TEXT = DOCUMENT.read_text()


def test_the_arc_and_each_oid() -> None:
    uuid = re.search(r"UUID\n?`([0-9a-f-]{36})`", TEXT)
    assert uuid is not None
    assert f"2.25.{int(uuid[1].replace('-', ''), 16)}" == profile.ARC
    assert f"`{profile.ARC}`" in TEXT
    for kind, oids in (("role", profile.ROLE_OIDS), ("assurance", profile.ASSURANCE_OIDS)):
        for name, oid in oids.items():
            assert f"| arc`{oid.dotted_string.removeprefix(profile.ARC)}` | {kind} `{name}` |" in TEXT


def test_each_reason_and_no_other() -> None:
    documented = set()
    for row in re.findall(r"^\| (`.*`) \| [^|]* \|$", TEXT.partition("## Reasons")[2], re.MULTILINE):
        documented |= set(re.findall(r"`([^`]+)`", row))
    raised = {reason for _, reason in REASONS} | {"viewer-not-allowed", "publisher-not-allowed"}
    pattern = re.compile(r"(?:PolicyRefused|PolicyUndecided|ProfileViolation)\(\s*\"([a-z0-9-]+)\"")
    for path in Path(verifier.__file__).parent.glob("*.py"):
        raised |= set(pattern.findall(path.read_text()))
    raised |= {"chain-untrusted", "ocsp-replayed"}
    touched = re.findall(r'_refused\("([a-z]+)"', inspect.getsource(presence))
    raised |= {f"presence-{what}" for what in touched}
    raised -= {"bad-root"}  # of a setting, not of a certificate presented
    assert documented == raised
