"""Secrets in every spelling go, whatever stands around them, and the rest stays."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dongled.agent.bugreport.redact import INSTEAD, Redactor

SECRET = 'hunter2/ "ünique" +key'
PEM = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        SECRET.upper(),
        quote(SECRET, safe=""),
        json.dumps(SECRET),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_however_it_is_spelt(spelt: str) -> None:
    redacted = Redactor([f"{SECRET}\n"]).text(f"before {spelt} after{spelt}after")
    assert spelt not in redacted
    assert redacted.startswith("before ")
    assert redacted.count(INSTEAD) == 2


@settings(deadline=None)
@given(st.binary(max_size=9), st.binary(min_size=9, max_size=40), st.binary(max_size=9))
def test_base64_of_something_around_it(before: bytes, secret: bytes, after: bytes) -> None:
    text = secret.hex()
    around = base64.b64encode(before + text.encode() + after).decode()
    redacted = Redactor([text]).text(around)
    assert INSTEAD in redacted
    # What is left of it are its ends, a character or two of it in each.
    assert len(redacted) - len(INSTEAD) <= len(around) - len(base64.b64encode(text.encode())) + 8


def test_a_pin_is_looked_for_as_a_word_of_its_own() -> None:
    redactor = Redactor(["123456", "abc1"])
    assert redactor.text("PIN123456, pin=123456.") == f"PIN{INSTEAD}, pin={INSTEAD}."
    assert redactor.text("pw:abc1") == f"pw:{INSTEAD}"
    # Else its absence from a counter or a digest would tell it.
    whole = "9123456 1234567 xabc1 abc12"
    assert redactor.text(whole) == whole
    assert redactor.text(b"123456".hex()) == INSTEAD


def test_a_key_is_found_by_each_line_and_by_its_looks() -> None:
    second = PEM.splitlines()[2]
    assert Redactor([PEM]).text(f"a line: {second}!") == f"a line: {INSTEAD}!"
    assert Redactor([]).text(f"before\n{PEM}after") == f"before\n{INSTEAD}\nafter"
    assert second not in Redactor([]).text(PEM[: PEM.index("-----END")])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("wss://user:s3cret@sfu.example.com/janus", f"wss://{INSTEAD}@sfu.example.com/janus"),
        ("pkcs11:token=a?pin-value=4711&module-name=x", f"pkcs11:token=a?pin-value={INSTEAD}&module-name=x"),
        ("Authorization: Bearer abc.def-1", f"Authorization: Bearer {INSTEAD}"),
        ("Environment=TOKEN=s3cret\nUser=dongled", f"Environment={INSTEAD}\nUser=dongled"),
        ("SetCredential=a:s3cret", f"SetCredential={INSTEAD}"),
    ],
)
def test_what_looks_like_a_secret_goes_unknown(text: str, left: str) -> None:
    assert Redactor([]).text(text) == left


def test_data_keeps_its_shape_and_its_numbers() -> None:
    value = {"pid": 123456, "why": ["123456", {"123456": None}], "ok": True, "fps": 29.97}
    assert Redactor(["123456"]).data(value) == {
        "pid": 123456, "why": [INSTEAD, {INSTEAD: None}], "ok": True, "fps": 29.97,
    }  # fmt: skip


def test_nothing_to_look_for_changes_nothing() -> None:
    text = "2026-11-29 dongled.meeting.lobby: joined: urn:uuid:6a1d5c3e\n"
    assert Redactor(["", "\n"]).text(text) == text
