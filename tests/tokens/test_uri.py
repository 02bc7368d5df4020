"""RFC 7512: what is a URI, what is not, and that a PIN in one is never repeated."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dongled.tokens.errors import TokenError
from dongled.tokens.uri import Pkcs11Uri, parse, parse_token

# https://www.rfc-editor.org/rfc/rfc7512#section-3, without those that name a PIN
EXAMPLES = [
    ("pkcs11:", {}, {}),
    (
        "pkcs11:object=my-pubkey;type=public",
        {"object": "my-pubkey", "type": "public"},
        {},
    ),
    (
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;"
        "model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=",
        {
            "token": "The Software PKCS#11 Softtoken",
            "manufacturer": "Snake Oil, Inc.",
            "model": "1.0",
            "object": "my-certificate",
            "type": "cert",
            "id": "69953e5cf4bdec91",
            "serial": "",
        },
        {},
    ),
    (
        "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?module-path="
        "/usr/lib/x.so",
        {"token": "Software PKCS#11 softtoken", "manufacturer": "Snake Oil, Inc."},
        {"module-path": "/usr/lib/x.so"},
    ),
    ("pkcs11:slot-description=Sun%20Metaslot", {"slot-description": "Sun Metaslot"}, {}),
    ("pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-version=3",
     {"library-manufacturer": "Snake Oil, Inc.", "library-version": "3"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "query"), EXAMPLES)
def test_reads_the_examples_of_the_rfc(text: str, path: dict[str, str], query: dict[str, str]) -> None:
    uri = parse(text)
    assert dict(uri.path) == path
    assert dict(uri.query) == query
    assert parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "uri-scheme"),
        ("token=x", "uri-scheme"),
        ("http:token=x", "uri-scheme"),
        ("pkcs11:token", "uri-syntax"),
        ("pkcs11:token=a;", "uri-syntax"),
        ("pkcs11:;token=a", "uri-syntax"),
        ("pkcs11:token=a b", "uri-syntax"),
        ("pkcs11:token=a/b", "uri-syntax"),
        ("pkcs11:token=ä", "uri-syntax"),
        ("pkcs11:token=%4", "uri-syntax"),
        ("pkcs11:token=%zz", "uri-syntax"),
        ("pkcs11:token=a\n", "uri-syntax"),
        ("pkcs11:token=a?", "uri-syntax"),
        ("pkcs11:to%6Ben=a", "uri-syntax"),
        ("pkcs11:type=key", "uri-syntax"),
        ("pkcs11:slot-id=one", "uri-syntax"),
        ("pkcs11:library-version=1.2.3", "uri-syntax"),
        ("pkcs11:token=%ff", "uri-encoding"),
        ("pkcs11:token=a;token=b", "uri-duplicate"),
        ("pkcs11:colour=red", "uri-attribute"),
        ("pkcs11:token=a?object=b", "uri-attribute"),
        ("pkcs11:token=" + "a" * 1024, "uri-too-long"),
    ],
)
def test_refuses_what_is_not_one(text: str, reason: str) -> None:
    with pytest.raises(TokenError) as refusal:
        parse(text)
    assert refusal.value.reason == reason
    assert refusal.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=a?pin-value=7319",
        "pkcs11:token=a?module-path=/x&pin-value=7319",
        "pkcs11:token=a?PIN-VALUE=7319",
        "pkcs11:token=a;pin-value=7319",
        "pkcs11:pin-value=7319",
        "pkcs11:token=a b?pin-value=7319%",
        "pkcs11:token=a?pin-source=file:/7319",
        "pkcs11:token=a?pin-value",
    ],
)
def test_a_pin_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(TokenError) as refusal:
        parse(text)
    assert refusal.value.reason == "uri-holds-pin"
    assert "7319" not in str(refusal.value) + refusal.value.hint + repr(refusal.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pkcs11:", "uri-empty"),
        ("pkcs11:slot-id=3", "uri-slot"),
        ("pkcs11:token=a;object=b", "uri-not-token"),
        ("pkcs11:token=a;id=%01", "uri-not-token"),
        ("pkcs11:token=a?module-name=b", "uri-not-token"),
    ],
)
def test_a_token_is_named_by_nothing_but_itself(text: str, reason: str) -> None:
    with pytest.raises(TokenError) as refusal:
        parse_token(text)
    assert refusal.value.reason == reason


def test_every_attribute_given_has_to_match() -> None:
    names = {"token": "a", "serial": "1", "model": "m"}
    assert parse("pkcs11:token=a").matches(names)
    assert parse("pkcs11:token=a;serial=1;model=m").matches(names)
    assert not parse("pkcs11:token=a;serial=2").matches(names)
    assert not parse("pkcs11:token=A").matches(names)
    assert not parse("pkcs11:token=").matches(names)
    assert not parse("pkcs11:manufacturer=x").matches(names)


@given(st.dictionaries(st.sampled_from(["token", "serial", "model", "manufacturer", "object"]),
                       st.text(st.characters(codec="utf-8"), max_size=30)))  # fmt: skip
def test_what_is_written_reads_the_same(path: dict[str, str]) -> None:
    assert dict(parse(str(Pkcs11Uri(path))).path) == path


@given(st.text(max_size=80) | st.text("pkcs1:;=?&%aidtoken-0 ", max_size=60).map("pkcs11:".__add__))
def test_nothing_but_a_refusal_comes_of_garbage(text: str) -> None:
    with suppress(TokenError):
        uri = parse(text)
        assert parse(str(uri)) == uri
