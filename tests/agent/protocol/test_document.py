"""docs/protocol.md names every reason and alarm that the code gives, and none that it does not."""

from __future__ import annotations

import re
from pathlib import Path

from dongled.agent.protocol import cose, limits, private_messages

ROOT = Path(__file__).parents[3]
CODE = "".join(path.read_text() for path in (ROOT / "agent/dongled/agent/protocol").glob("*.py"))
PAGE = (ROOT / "docs/protocol.md").read_text()

# Raised and caught within a module: it never becomes an event.
INSIDE = {"link-unknown"}


def test_every_reason_is_listed() -> None:
    table = PAGE[PAGE.index("## Reasons") :]
    listed = set(re.findall(r"`([a-z0-9-]+)`", table))
    given = set(re.findall(r'Refusal\(\s*"([a-z0-9-]+)"', CODE)) - INSIDE
    given |= set(re.findall(r'super\(\).__init__\("([a-z-]+)"', CODE))
    given |= set(re.findall(r'"((?:link|key)-seal)"', CODE))
    given |= set(re.findall(r'\.alarm\(\s*"([a-z-]+)"', CODE))
    assert len(given) > 40
    assert given - listed == set()
    kinds = {f"-{kind}" for kind in {*cose.KINDS, *private_messages.KINDS, "keys", "letter"}}
    assert {reason for reason in listed if not reason.startswith("-")} - given == {
        "malformed-announce",
        "status",
    }
    assert {reason for reason in listed if reason.startswith("-")} == kinds - {"-announce"}


def test_every_type_is_described() -> None:
    for kind in cose.KINDS:
        assert f"### {kind}\n" in PAGE
        assert f'"{kind}"' in PAGE


def test_the_sizes_are_the_code_s() -> None:
    assert limits.BEACON == 7.0
    for text in (
        f"{limits.MESSAGE:,} bytes",
        f"more than\n{limits.CBOR_DEPTH} levels",
        f"(1..{limits.CERTIFICATE})",
        f"[0*{limits.STREAMS} [stream-id",
        f"{limits.PEERS} terminals in a meeting",
        f"at most {limits.SKIP} positions ahead",
        f"until {limits.LIVE:.0f} s after",
        f"{limits.QUOTA_BURST:.0f} messages at once and {limits.QUOTA_RATE:.0f} a second",
        f"the last {limits.REKEYS_KEPT} are kept",
        f"together {limits.BATCH * 1000:.0f} ms after",
        f"key frame, {limits.SWITCH * 1000:.0f} ms later",
        f"bstr .size {limits.XWING_PUBLIC}",
        f"at most {limits.EVIDENCE:,} bytes",
        f"[1*{limits.STAPLES} bstr .size (1..{limits.STAPLE})]",
        f"[1*{limits.ATTESTATION} certificate]",
        f"credential: bstr .size (1..{limits.CREDENTIAL})",
        f"authenticator-data: bstr .size ({limits.AUTHENTICATOR_DATA}..{limits.FIDO})",
        f"kept for {limits.HELD_REQUEST:.0f} s",
        f"{limits.HELD_REQUESTS} in all",
        f"replaces it after {limits.PENDING_PAUSE:.0f} s",
        f"tstr .size (0..{limits.EXPEL_REASON})",
        f'"lifetime": 1..{limits.EXPEL_MOST}',
        f"orders {limits.EXPEL_LIFETIME / 3600:.0f} hours",
        f"has at most {limits.EXPELS} in force",
        f"[0*{limits.BEACON_STREAMS} [stream-id, kid, ctr",
        f'"sealed": bstr .size {limits.LETTER_SEALED}',
        f"zeros, {limits.LETTER:,} bytes in all",
        f"the last {limits.LETTERS_KEPT} counters",
        f"{limits.LETTER_BURST:.0f} letters at once and {limits.LETTER_RATE:.0f} a second",
        f"opens {limits.LETTER_DERIVES_BURST:.0f} at once and then one",
        f"one in {1 / limits.LETTER_DERIVES_RATE:.0f} s",
        f"for the same bytes again {limits.LETTER_REACK} s later",
        f"Of the last {limits.LETTERS_KEPT} that were",
        f"answered {limits.REQUEST_BURST:.0f} at once and {limits.REQUEST_RATE:.0f} a second",
        f"{limits.WELCOME_BURST:.0f} at once and {limits.WELCOME_RATE:.0f} a second for one terminal",
        f"{limits.ANSWER_AGAIN * 1000:.0f} ms after it did, then {limits.ANSWER_AGAIN * 2000:.0f} ms",
        f'"lifetime": 1..{limits.INVITE_MOST}',
        f"lapses {limits.INVITE_LIFETIME} s after it was taken",
        f"{limits.INVITE_LIFETIME + limits.INVITE_SLACK:.0f} s after it was sent",
        f'"streams": [1*{limits.PRIVATE_STREAMS} private-stream]',
        f"or after {limits.PRIVATE_SWITCH:.0f} s",
        f"begins {limits.ROUND:.0f} s after",
        f"up to {limits.ROUND_JITTER:.0f} s later",
        f"each up to {limits.RENEW_SPREAD:.0f} s later",
        f"{limits.RENEW:.0f} s after the announcement all links",
        f"{limits.EXPIRE:.0f} s after they took it",
        f"at most {limits.ROUND + limits.ROUND_JITTER:.0f} + {limits.RENEW:.0f} s",
    ):
        assert text in PAGE, text
