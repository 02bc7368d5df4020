"""A PIN sealed for FIDO2 keys: who opens it, and what opens nothing."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dongled.tokens.errors import TokenError
from dongled.tokens.fido import enrolling, keys
from dongled.tokens.fido.keys import UNLOCK_RP, Person
from dongled.tokens.fido.source import FidoPin, unseal
from dongled.tokens.fido.vault import MOST_KEYS, Sealed, Vault, seal
from dongled.tokens.pin import Pin
from support.card.fido_authenticator import Authenticator
from tokens.fido.conftest import Desk

SERIAL, PIN, KEY_PIN = "62315f7b5c10e71c", "73195402", "2468"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "pin-fido.json")


def enroll(desk: Desk, vault: Vault, name: str, *, verified: bool = False, key_pin: str = KEY_PIN) -> Sealed:
    make, use = desk.person(key_pin), desk.person(key_pin)
    return enrolling.enroll(vault, name, SERIAL, Pin(PIN), make, use, verified=verified)


def source(desk: Desk, vault: Vault, key_pin: str | None = None, serial: str = SERIAL) -> FidoPin:
    """As the daemon has it, with somebody who touches."""
    made = FidoPin(vault, serial, desk.person().told)
    made.key_pin = None if key_pin is None else lambda: Pin(key_pin)
    return made


def reason(of: Callable[[], object]) -> str:
    with pytest.raises(TokenError) as refused:
        of()
    assert PIN not in f"{refused.value!r} {refused.value} {refused.value.hint}"
    return refused.value.reason


@pytest.mark.fault("unlocked by FIDO2, with and without verification")
@pytest.mark.parametrize("verified", [False, True])
def test_what_was_sealed_opens_at_a_touch(desk: Desk, vault: Vault, verified: bool) -> None:
    entry = enroll(desk, vault, "blue key", verified=verified)
    assert entry.verified is verified
    unlocking = source(desk, vault, KEY_PIN if verified else None)
    assert unlocking.version() == ("fido", "blue key", entry.nonce.hex())
    assert unlocking.read().reveal() == PIN
    # Unlocked again after a crash of the worker, nobody is asked.
    desk.away.add("one")
    assert unlocking.version() == ("fido", "blue key", entry.nonce.hex())
    assert unlocking.read().reveal() == PIN


def test_the_file_shows_neither_the_pin_nor_its_length(desk: Desk, vault: Vault) -> None:
    enroll(desk, vault, "blue")
    text = vault.path.read_text()
    assert PIN not in text
    assert vault.path.stat().st_mode & 0o777 == 0o600
    short = seal("a", SERIAL, b"c", bytes(32), verified=False, secret=bytes(32), pin=Pin("1"))
    long = seal("a", SERIAL, b"c", bytes(32), verified=False, secret=bytes(32), pin=Pin("1" * 255))
    assert len(short.sealed) == len(long.sealed)
    assert long.open(bytes(32), SERIAL).reveal() == "1" * 255


def test_the_daemons_user_can_read_what_root_enrolled(desk: Desk, vault: Vault, tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    enroll(desk, vault, "blue")
    assert vault.path.stat().st_uid == 12345
    os.chown(vault.path, 0, 12345)
    vault.path.chmod(0o640)
    enroll(desk, vault, "blue")
    status = vault.path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 12345, 0o640)


def test_the_key_has_another_secret_for_a_verified_user(desk: Desk, vault: Vault) -> None:
    entry = enroll(desk, vault, "blue", verified=True)
    lying = replace(entry, verified=False)
    vault.write([lying])
    assert reason(source(desk, vault).read) == "fido-sealed-elsewhere"


def test_a_key_that_verifies_unlike_at_enrolment_is_told_of(
    desk: Desk, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = enroll(desk, vault, "blue")
    ask = keys.assertion
    monkeypatch.setattr(keys, "assertion", lambda *a, **k: ask(*a, **{**k, "verified": True}))
    assert reason(lambda: unseal(entry, SERIAL, desk.person(KEY_PIN))) == "fido-verification"


@pytest.mark.parametrize(
    "change",
    [
        {"serial": "another"},
        {"credential": b"another"},
        {"salt": b"s" * 32},
        {"verified": True},
        {"nonce": bytes(12)},
        {"sealed": bytes(272)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_entry_is_bound_to_all_that_it_says(change: dict[str, object]) -> None:
    entry = seal("a", SERIAL, b"c", bytes(32), verified=False, secret=bytes(32), pin=Pin(PIN))
    assert entry.open(bytes(32), SERIAL).reveal() == PIN
    changed = replace(entry, **change)  # type: ignore[arg-type]  # one field each
    assert reason(lambda: changed.open(bytes(32), changed.serial)) == "fido-sealed-elsewhere"
    assert reason(lambda: entry.open(b"x" * 32, SERIAL)) == "fido-sealed-elsewhere"


def test_another_token_has_nothing_of_it(desk: Desk, vault: Vault) -> None:
    entry = enroll(desk, vault, "blue")
    assert reason(source(desk, vault, serial="another").version) == "fido-not-enrolled"
    assert reason(lambda: unseal(entry, "another", desk.person())) == "fido-sealed-elsewhere"


@pytest.mark.fault("unlocked by a second enrolled FIDO2 key")
def test_a_second_key_unlocks_without_the_first(desk: Desk, vault: Vault) -> None:
    enroll(desk, vault, "blue")
    desk.keys["two"] = Authenticator()
    assert reason(lambda: enroll(desk, vault, "red")) == "fido-several"
    desk.away.add("one")
    second = enroll(desk, vault, "red")
    assert source(desk, vault).read().reveal() == PIN
    assert source(desk, vault).version() == ("fido", "red", second.nonce.hex())
    desk.away = {"two"}
    assert source(desk, vault).version()[1] == "blue"
    enrolling.remove(vault, "blue")
    assert reason(source(desk, vault).version) == "fido-unknown"
    assert reason(lambda: enrolling.remove(vault, "blue")) == "fido-name"


def test_a_key_is_enrolled_once(desk: Desk, vault: Vault) -> None:
    first = enroll(desk, vault, "blue")
    assert reason(lambda: enroll(desk, vault, "the same again")) == "fido-known"
    again = enroll(desk, vault, "blue")
    assert [entry.nonce for entry in vault.entries()] == [again.nonce] != [first.nonce]


def test_no_key_and_an_unknown_one(desk: Desk, vault: Vault) -> None:
    assert reason(source(desk, vault).version) == "fido-not-enrolled"
    enroll(desk, vault, "blue")
    desk.away.add("one")
    assert reason(source(desk, vault).version) == "fido-absent"
    desk.keys["stranger"] = Authenticator()
    assert reason(source(desk, vault).version) == "fido-unknown"


@pytest.mark.fault("wrong PIN of a FIDO2 key")
def test_a_wrong_pin_of_the_key(desk: Desk, vault: Vault) -> None:
    enroll(desk, vault, "blue", verified=True)
    assert reason(source(desk, vault).read) == "fido-pin-wanted"
    assert reason(source(desk, vault, "1111").read) == "fido-pin-wrong"
    assert desk.keys["one"].pin.left == 7
    assert source(desk, vault, KEY_PIN).read().reveal() == PIN
    desk.keys["one"].pin.left = 0
    assert reason(source(desk, vault, KEY_PIN).read) == "fido-pin-locked"


def test_a_keys_pin_is_tried_once_by_the_attempt_that_it_was_given_for(desk: Desk, vault: Vault) -> None:
    """One that is given while the daemon looks for the key by itself, and then the operator's own."""
    enroll(desk, vault, "blue", verified=True)
    unlocking = source(desk, vault)
    unlocking.version()
    unlocking.key_pin = lambda: Pin("1111")
    assert reason(unlocking.read) == "fido-pin-wanted"
    for expected in ("fido-pin-wrong", "fido-pin-wanted"):
        unlocking.version()
        assert reason(unlocking.read) == expected
        assert desk.keys["one"].pin.left == 7


def test_a_key_without_pin_cannot_verify(desk: Desk, vault: Vault) -> None:
    desk.keys["one"] = Authenticator()
    assert reason(lambda: enroll(desk, vault, "blue", verified=True)) == "fido-unverifiable"


@pytest.mark.fault("FIDO2 key removed while it waits for a touch")
def test_removed_while_it_blinks(desk: Desk, vault: Vault) -> None:
    entry = enroll(desk, vault, "blue")
    person = Person(lambda: desk.away.add("one"), None, threading.Event())
    assert reason(lambda: unseal(entry, SERIAL, person)) == "fido-removed"
    desk.away.clear()
    assert source(desk, vault).read().reveal() == PIN


def test_nobody_touches_it(desk: Desk, vault: Vault) -> None:
    entry = enroll(desk, vault, "blue")
    assert reason(lambda: unseal(entry, SERIAL, desk.person(seconds=0.2, touching=False))) == "fido-untouched"
    waiting = FidoPin(vault, SERIAL, lambda: waiting.cancel())
    assert reason(waiting.read) == "fido-untouched"
    assert not desk.keys["one"].touch.asked.is_set()


@pytest.mark.fault("damaged file of sealed PINs")
@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'{"format":2,"keys":[]}', b'{"format":1}', b'{"format":1,"keys":[{}]}',
        b'{"format":1,"keys":[1]}', b'{"format":1,"keys":7}', b"[" * 100_000, b"\xff", b" " * (1 << 17),
    ],
)  # fmt: skip
def test_a_damaged_file_opens_nothing(desk: Desk, vault: Vault, content: bytes) -> None:
    vault.path.write_bytes(content)
    assert reason(source(desk, vault).version) == "fido-file"


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "../x"), ("name", 1), ("serial", None), ("verified", 0), ("salt", "AA=="), ("nonce", "x"),
     ("sealed", 1), ("credential", ""), ("more", 1)],
)  # fmt: skip
def test_a_field_that_is_none_of_ours(desk: Desk, vault: Vault, field: str, value: object) -> None:
    enroll(desk, vault, "blue")
    content = json.loads(vault.path.read_text())
    content["keys"][0][field] = value
    vault.path.write_text(json.dumps(content))
    assert reason(source(desk, vault).version) == "fido-file"


def test_no_more_keys_than_are_read_back(desk: Desk, vault: Vault) -> None:
    entry = enroll(desk, vault, "blue")
    vault.write([replace(entry, name=f"key {number}") for number in range(MOST_KEYS)])
    desk.keys["one"] = Authenticator()
    assert reason(lambda: enroll(desk, vault, "one more")) == "fido-full"
    assert reason(lambda: enroll(desk, vault, "a/b")) == "fido-name"
    vault.write([replace(entry, serial="another")])
    assert reason(lambda: enroll(desk, vault, "blue")) == "fido-name"


def test_unlocking_and_presence_know_nothing_of_each_other(desk: Desk, vault: Vault) -> None:
    entry = enroll(desk, vault, "blue")
    assert keys.present(UNLOCK_RP, [entry.credential]) == entry.credential
    assert reason(lambda: keys.present(keys.PRESENCE_RP, [entry.credential])) == "fido-unknown"
