"""``dongled token change-pin`` and its like on a virtual card, judged by others' programs."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
from collections.abc import Awaitable
from pathlib import Path

import pytest

from dongled.tokens import contact, piv
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.ledger_file import FileLedger
from dongled.tokens.pin import Pin, PinFile
from dongled.tokens.piv import Reference
from dongled.tokens.piv_management import replace_key
from dongled.tokens.readers import LIBRARY
from support.card import bench, piv_management
from support.card.apdu import Card
from support.card.bench import YKCS11, PivCard, tool
from support.card.piv import ATR, PivApplet
from tokens.bench import SoftToken, answering, new_pin, write_pin
from tokens.card.test_card_terminal import MODULES, refused, uri_of
from tokens.test_cli import token_command

_CHANGE, _UNBLOCK = 0x24, 0x2C


@pytest.fixture(autouse=True)
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpcsclite remembers the first pcscd that it met: a copy of it meets this test's own."""
    ctypes.CDLL(LIBRARY)
    loaded = re.search(rf"\S+/{re.escape(LIBRARY)}\S*", Path("/proc/self/maps").read_text())
    assert loaded is not None
    monkeypatch.setattr(contact, "LIBRARY", shutil.copy(loaded[0], tmp_path / LIBRARY))


def accepts(card: PivCard, pin: str) -> bool:
    return tool(card, "yubico-piv-tool", "-a", "verify-pin", "-P", pin).returncode == 0


@MODULES
@pytest.mark.fault("PIN blocked, and unblocked by the command line")
async def test_from_the_makers_values_to_ones_own(card: PivCard, module: str, tmp_path: Path) -> None:
    uri = await uri_of(module)
    pin, puk, fresh, fresh_puk = (
        write_pin(tmp_path / name, value)
        for name, value in (
            ("pin", card.pin_text), ("puk", card.puk_text), ("new-pin", new_pin()), ("new-puk", new_pin()),
        )
    )  # fmt: skip
    login = ("--module", module, "--uri", uri)

    def run(*arguments: str | Path) -> str:
        done = token_command(*map(str, arguments))
        assert done.returncode == 0, done.stderr
        for secret in (pin, puk, fresh, fresh_puk):
            assert secret.read_text().strip() not in done.stdout + done.stderr
        return done.stdout

    assert "has the new PIN" in run("change-pin", *login, "--pin-file", pin, "--new-pin-file", fresh)
    assert accepts(card, fresh.read_text().strip())
    assert not accepts(card, card.pin_text)
    run("change-puk", *login, "--puk-file", puk, "--new-puk-file", fresh_puk)
    card.applet.pin.left = 0
    assert "is unblocked" in run("unblock-pin", *login, "--puk-file", fresh_puk, "--new-pin-file", pin)
    assert accepts(card, card.pin_text)
    assert card.applet.puk.left == 3


def test_another_management_key(blank: PivCard, tmp_path: Path) -> None:
    own = hashlib.sha256(os.urandom(8)).hexdigest()[:48]
    old = write_pin(tmp_path / "old", piv_management.DEFAULT.hex())
    new = write_pin(tmp_path / "new", own)
    login = ("--module", YKCS11, "--uri", "pkcs11:manufacturer=Yubico%20%28www.yubico.com%29")
    for expected in (0, 78):
        done = token_command(
            "change-management-key", *login, "--so-pin-file", str(old), "--new-so-pin-file", str(new)
        )
        assert done.returncode == expected, done.stderr
        assert own not in done.stdout + done.stderr
    assert "[pin-wrong]" in done.stderr
    generated = tool(blank, "yubico-piv-tool", f"--key={own}", "-a", "generate", "-s", "9a", "-A", "ECCP256")
    assert generated.returncode == 0, generated.stderr


@pytest.mark.fault("wrong PUK, restarted")
async def test_a_wrong_puk_or_pin_is_tried_once(card: PivCard, tmp_path: Path) -> None:
    uri, wrong = await uri_of(YKCS11), PinFile(write_pin(tmp_path / "wrong", new_pin()))
    new = answering(new_pin())
    reasons = []
    for _ in range(3):
        asked = piv.unblock(YKCS11, uri, wrong, new, ledger=FileLedger(tmp_path / "state"))
        reasons.append((await refused(asked)).reason)
    assert reasons == ["puk-wrong", *["pin-refused-before"] * 2]
    assert card.applet.puk.left == 2
    assert card.applet.pin.left == 3
    card.applet.puk.left = 0
    error = await refused(
        piv.change(Reference.PUK, YKCS11, uri, answering(new_pin()), new, ledger=MemoryLedger())
    )
    assert error.reason == "puk-locked"
    (kept,) = json.loads((tmp_path / "state" / "pins.json").read_text())["tries"]
    assert kept["verdict"] == "refused"


@pytest.mark.fault("final try")
async def test_a_file_does_not_spend_the_final_try(card: PivCard, tmp_path: Path) -> None:
    uri, new = await uri_of(YKCS11), answering(new_pin())
    pin = PinFile(write_pin(tmp_path / "pin", card.pin_text))
    card.applet.pin.left = 1
    error = await refused(piv.change(Reference.PIN, YKCS11, uri, pin, new, ledger=MemoryLedger()))
    assert error.reason == "pin-final-try"
    assert card.applet.pin.left == 1
    asked = answering(card.pin_text)
    await piv.change(Reference.PIN, YKCS11, uri, asked, new, ledger=MemoryLedger())
    assert card.applet.pin.left == 3


async def test_a_card_in_use_is_left_alone(card: PivCard) -> None:
    uri, new = await uri_of(YKCS11), answering(new_pin())
    with bench.held(card), pytest.raises(TokenError) as refusal:
        await piv.unblock(YKCS11, uri, answering(card.puk_text), new, ledger=MemoryLedger())
    # Its module does not see it either.
    assert refusal.value.reason in ("token-busy", "token-absent")
    assert not {_CHANGE, _UNBLOCK} & {instruction for instruction, _ in card.inserted.exchanged}


async def test_what_is_no_pin_of_a_card_is_not_sent(card: PivCard) -> None:
    uri, pin = await uri_of(YKCS11), answering(card.pin_text)
    for value in ("12345", "123456789", "12345a", "١٢٣٤٥٦"):
        asked = piv.change(Reference.PIN, YKCS11, uri, pin, answering(value), ledger=MemoryLedger())
        assert (await refused(asked)).reason == "pin-malformed"
    assert _CHANGE not in {instruction for instruction, _ in card.inserted.exchanged}


async def outcome(asked: Awaitable[object]) -> str:
    try:
        await asked
    except TokenError as error:
        return error.reason
    return "done"


@pytest.mark.fault("malformed responses")
async def test_what_else_a_card_may_say(card: PivCard) -> None:
    uri, pin = await uri_of(YKCS11), answering(card.pin_text)
    for answer, reason, then in (
        (b"\x6a\x80", "pin-weak", "done"),
        (b"\x63\xc0", "pin-locked", "pin-refused-before"),
        (b"\x69\x83", "pin-locked", "pin-refused-before"),
        (b"\x00", "token-fault", "pin-in-doubt"),
    ):
        new, ledger = answering(new_pin()), MemoryLedger()
        with card.inserted.spoiling(_CHANGE, lambda _, answer=answer: answer):  # type: ignore[misc]  # its own
            assert await outcome(piv.change(Reference.PIN, YKCS11, uri, pin, new, ledger=ledger)) == reason
        # It did change it, and nobody was told.
        assert accepts(card, new.read().reveal())
        card.applet.pin.set(card.pin_text.encode().ljust(8, b"\xff"))
        assert await outcome(piv.change(Reference.PIN, YKCS11, uri, pin, new, ledger=ledger)) == then
        card.applet.pin.set(card.pin_text.encode().ljust(8, b"\xff"))


async def test_another_kind_of_token_is_not_touched(token: SoftToken) -> None:
    asked = piv.change(Reference.PIN, token.module, token.uri, token.pin, answering(new_pin()))
    assert (await refused(asked)).reason == "token-unable"


# --- the management key's exchange, without a reader -------------------------------------------------


def in_hand(algorithm: int, key: bytes) -> tuple[PivApplet, Card]:
    applet = PivApplet(new_pin(), new_pin())
    applet.management.set(bytes((algorithm, 0x9B, len(key))) + key)
    card = Card(ATR, applet)
    card.transmit(bytes.fromhex("00A4040005A000000308"))
    return applet, card


@pytest.mark.parametrize(("algorithm", "size"), [(0x03, 24), (0x08, 16), (0x0A, 24), (0x0C, 32)])
def test_every_algorithm_of_a_management_key(algorithm: int, size: int) -> None:
    old, new = os.urandom(size), os.urandom(size)
    _, card = in_hand(algorithm, old)

    def transmit(apdu: bytes) -> tuple[bytes, int]:
        response = card.transmit(apdu)
        return response[:-2], int.from_bytes(response[-2:], "big")

    for wrong in (os.urandom(size), bytes(size)):
        with pytest.raises(TokenError) as refusal:
            replace_key(transmit, Pin(wrong.hex()), Pin(new.hex()))
        assert refusal.value.reason == "pin-wrong"
    with pytest.raises(TokenError) as refusal:
        replace_key(transmit, Pin(old.hex()), Pin(new.hex()[:-2]))
    assert refusal.value.reason == "pin-malformed"
    replace_key(transmit, Pin(old.hex()), Pin(new.hex()))
    replace_key(transmit, Pin(new.hex()), Pin(old.hex()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"", lambda data: data[:-1], lambda data: data + b"\0", lambda data: bytes(len(data)),
        lambda data: b"\x7c\x82" + data[2:], lambda data: data[:-1] + bytes((data[-1] ^ 1,)),
    ],
)  # fmt: skip
def test_a_card_that_does_not_know_the_key_gets_no_new_one(spoil: object) -> None:
    """One that only pretends would learn it."""
    old, sent = os.urandom(24), []
    _, card = in_hand(0x0A, old)
    assert callable(spoil)

    def transmit(apdu: bytes) -> tuple[bytes, int]:
        sent.append(apdu[1])
        response = card.transmit(apdu)
        data, status = response[:-2], int.from_bytes(response[-2:], "big")
        # The answer to our challenge.
        return (spoil(data) if sent.count(0x87) == 2 else data), status

    with pytest.raises(TokenError) as refusal:
        replace_key(transmit, Pin(old.hex()), Pin(os.urandom(24).hex()))
    assert refusal.value.reason == "pin-wrong"
    assert 0xFF not in sent
