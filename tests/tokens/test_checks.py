"""Which tokens and keys are refused, on real ones where SoftHSM can make them, and by which reason."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens import checks, provision
from dongled.tokens.api import KeyAttributes, KeyPin, KeyPins, KeyRole, TokenInfo
from dongled.tokens.describe import FoundKey, FoundToken, public_key_sha256
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import open_token
from dongled.tokens.uri import parse_token
from tokens.bench import SoftToken, answering, new_pin, pkcs11_tool, point_of

GOOD = KeyAttributes(True, True, True, False, True, sign=True, derive=True)
POINT = point_of(ec.generate_private_key(ec.SECP256R1()))
KEY = FoundKey(b"\x01", "identity", POINT, GOOD)
PIN = KeyPin(b"\x01", public_key_sha256(POINT))
TOKEN = FoundToken(
    0,
    {"token": "a", "serial": "1", "model": "m", "manufacturer": "x"},
    TokenInfo("pkcs11:serial=1;token=a", "a", "1", "m", "x", True, True, False, False, False),
)


async def refusal_of(token: SoftToken, pins: KeyPins | None = None) -> str:
    with pytest.raises(TokenError) as refusal:
        await open_token(token.module, token.uri, token.pin, pins)
    assert refusal.value.hint
    return refusal.value.reason


@pytest.mark.property("P2")
async def test_the_pinned_token_and_no_other(token: SoftToken) -> None:
    opened = await open_token(token.module, token.uri, token.pin)
    identity, data = opened.identity, opened.data
    await opened.close()
    right = KeyPins(token.serial, KeyPin(identity.cka_id, identity.sha256), KeyPin(data.cka_id, data.sha256))
    await (await open_token(token.module, token.uri, token.pin, right)).close()

    def changed(**pins: object) -> KeyPins:
        return dataclasses.replace(right, **pins)  # type: ignore[arg-type] # one pin at a time

    assert await refusal_of(token, changed(serial="0" + token.serial)) == "token-other"
    assert await refusal_of(token, changed(identity=KeyPin(b"\x01", identity.sha256))) == "key-missing"
    assert await refusal_of(token, changed(identity=KeyPin(data.cka_id, identity.sha256))) == "key-other"
    assert await refusal_of(token, changed(identity=KeyPin(identity.cka_id, bytes(32)))) == "key-other"
    assert await refusal_of(token, changed(data=KeyPin(data.cka_id, identity.sha256))) == "key-other"


def delete(token: SoftToken, label: str) -> None:
    for kind in ("privkey", "pubkey"):
        pkcs11_tool(token, "--delete-object", "--type", kind, "--label", label)


@pytest.mark.property("P2")
async def test_a_key_that_was_brought_along_is_refused(token: SoftToken) -> None:
    delete(token, "identity")
    path = token.directory / "imported.pem"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    for kind in ("privkey", "pubkey"):
        source = path
        if kind == "pubkey":
            source = token.directory / "public.der"
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            source.write_bytes(
                key.public_key().public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
        pkcs11_tool(
            token, "--write-object", str(source), "--type", kind, "--label", "identity", "--id", "77",
            "--usage-sign", "--sensitive",
        )  # fmt: skip
    assert await refusal_of(token) == "key-imported"
    report = await provision.show(token.module, token.uri, token.pin)
    assert report.refused[KeyRole.IDENTITY].reason == "key-imported"
    assert KeyRole.DATA in report.keys


@pytest.mark.parametrize(
    ("label", "options", "reason"),
    [
        ("identity", ("EC:prime256v1", "--extractable"), "key-extractable"),
        ("data", ("EC:prime256v1",), "key-usage"),
        ("identity", ("EC:secp384r1",), "key-kind"),
        ("identity", ("rsa:2048",), "key-kind"),
    ],
)
async def test_a_key_of_the_wrong_kind_is_refused(
    token: SoftToken, label: str, options: tuple[str, ...], reason: str
) -> None:
    delete(token, label)
    pkcs11_tool(
        token, "--keypairgen", "--usage-sign", "--sensitive", "--label", label, "--id", "77",
        "--key-type", *options,
    )  # fmt: skip
    assert await refusal_of(token) == reason


async def test_a_namesake_makes_it_ambiguous(token: SoftToken) -> None:
    pkcs11_tool(
        token, "--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign", "--sensitive",
        "--label", "identity", "--id", "77",
    )  # fmt: skip
    assert await refusal_of(token) == "key-ambiguous"


@pytest.mark.fault("two tokens that a URI fits")
async def test_a_token_has_to_be_named_exactly(token: SoftToken) -> None:
    await provision.initialize(token.module, "second", answering(new_pin()), answering(new_pin()))
    for uri, reason in (
        ("pkcs11:token=nobody", "token-absent"),
        ("pkcs11:model=SoftHSM%20v2", "token-ambiguous"),
        (token.uri + ";object=identity", "uri-not-token"),
        (token.uri + "?pin-value=1234", "uri-holds-pin"),
    ):
        with pytest.raises(TokenError) as refusal:
            await open_token(token.module, uri, token.pin)
        assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"pin_locked": True, "pin_final_try": True}, "pin-locked"),
        ({"pin_final_try": True}, "pin-final-try"),
        ({"initialized": False}, "token-absent"),
    ],
)
def test_no_login_is_tried_where_it_would_do_harm(flags: dict[str, Any], reason: str) -> None:
    token = dataclasses.replace(TOKEN, info=dataclasses.replace(TOKEN.info, **flags))
    with pytest.raises(TokenError) as refusal:
        checks.the_token(parse_token("pkcs11:token=a"), [token], None)
    assert refusal.value.reason == reason


@pytest.mark.property("P2")
@pytest.mark.parametrize("role", list(KeyRole))
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"local": False}, "key-imported"),
        ({"sensitive": False}, "key-not-sensitive"),
        ({"always_sensitive": False}, "key-not-sensitive"),
        ({"extractable": True}, "key-extractable"),
        ({"never_extractable": False}, "key-extractable"),
        ({"sign": False, "derive": False}, "key-usage"),
    ],
)
def test_each_attribute_is_required(role: KeyRole, change: dict[str, bool], reason: str) -> None:
    key = dataclasses.replace(KEY, label=role.value)
    assert checks.the_key(role, [key], None) == (key, POINT)
    bad = dataclasses.replace(key, attributes=dataclasses.replace(GOOD, **change))
    with pytest.raises(TokenError) as refusal:
        checks.the_key(role, [bad], None)
    assert refusal.value.reason == reason


def test_a_key_is_found_by_its_pin_whatever_its_label() -> None:
    card = dataclasses.replace(KEY, label="PIV AUTH key")
    assert checks.the_key(KeyRole.IDENTITY, [card], PIN)[0] is card
    with pytest.raises(TokenError) as refusal:
        checks.the_key(KeyRole.IDENTITY, [card], None)
    assert refusal.value.reason == "key-missing"


def test_two_keys_with_one_id_are_refused_whatever_their_labels() -> None:
    other = dataclasses.replace(KEY, label="something else")
    for pin in (None, PIN):
        with pytest.raises(TokenError) as refusal:
            checks.the_key(KeyRole.IDENTITY, [KEY, other], pin)
        assert refusal.value.reason == "key-ambiguous"
