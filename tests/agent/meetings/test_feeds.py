"""Display names of feeds are an SFU's claims: parsed strictly, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.agent.meetings.feeds import (
    EncryptedFeed,
    PlainFeed,
    encrypted_display,
    parse_encrypted,
    parse_plain,
    plain_display,
)

SESSIONS = st.binary(min_size=16, max_size=16)
STREAMS = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)


@given(SESSIONS, STREAMS)
def test_an_encrypted_feed_says_whose_it_is(session: bytes, stream: str) -> None:
    display = encrypted_display(session, stream)
    assert parse_encrypted(display) == EncryptedFeed(session, stream)
    assert parse_plain(display) is None


@pytest.mark.property("P10")
@given(st.from_regex(r"[a-zA-Z0-9 ]{1,64}", fullmatch=True), STREAMS)
def test_a_plain_feed_is_never_taken_for_an_encrypted_one(name: str, stream: str) -> None:
    display = plain_display(name, stream)
    assert parse_plain(display) == PlainFeed(name, stream)
    assert parse_encrypted(display) is None


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parse_encrypted(text)
    parse_plain(text)


@pytest.mark.parametrize(
    "display",
    [
        "",
        "dongled/1 " + "0" * 31 + " camera",
        "dongled/1 " + "0" * 32 + " Camera",
        "dongled/1 " + "0" * 32 + " camera\n",
        "dongled/2 " + "0" * 32 + " camera",
        "dongled/1 " + "A" * 32 + " camera",
    ],
)
def test_nearly_right_is_wrong(display: str) -> None:
    assert parse_encrypted(display) is None
