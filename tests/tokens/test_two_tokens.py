"""An identity on one token and a data key on another: told apart by serial, each with a PIN of its own."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens import provision
from dongled.tokens.api import KeyPin, KeyPins, KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import MemoryLedger, PinLedger
from dongled.tokens.ledger_file import FileLedger
from dongled.tokens.opened import OpenedToken, Place, SplitTokenError, open_token
from dongled.tokens.pin import PinFile
from dongled.tokens.state import TokenState, state_after
from tokens.bench import SoftToken, answering, new_pin, point_of, wait_gone, write_pin
from tokens.test_opened import public, verify

SUBJECT = x509.Name.from_rfc4514_string("CN=camera-1")


@pytest.fixture
async def pair(token: SoftToken, tmp_path: Path) -> tuple[SoftToken, SoftToken]:
    """Two tokens with one label, which both have both keys; the second's PIN is in ``other-pin``."""
    kept = shutil.move(token.directory / "tokens", tmp_path / "kept")
    (token.directory / "tokens").mkdir()
    pin = new_pin()
    other = PinFile(write_pin(tmp_path / "other-pin", pin))
    made = await provision.initialize(token.module, "terminal", answering(new_pin()), other)
    for role in (KeyRole.IDENTITY, KeyRole.DATA):
        await provision.generate(token.module, made.token.uri, other, role)
    shutil.copytree(kept, token.directory / "tokens", dirs_exist_ok=True)
    return token, replace(token, uri=made.token.uri, serial=made.token.serial, pin_text=pin)


async def both(
    first: SoftToken, second: SoftToken, pin: PinFile | None = None, ledger: PinLedger | None = None,
    pins: KeyPins | None = None,
) -> OpenedToken:  # fmt: skip
    """The first one's identity key and the second one's data key."""
    data = Place(second.module, second.uri, pin or PinFile(second.directory / "other-pin"))
    return await open_token(
        first.module, first.uri, first.pin, pins, data=data, ledger=ledger or MemoryLedger()
    )


async def works(opened: OpenedToken) -> None:
    verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
    peer = ec.generate_private_key(ec.SECP256R1())
    assert await opened.derive(point_of(peer), "peer") == peer.exchange(ec.ECDH(), public(opened.data))


@pytest.mark.fault("two tokens with one label")
async def test_two_tokens_with_one_label(pair: tuple[SoftToken, SoftToken]) -> None:
    first, second = pair
    assert first.serial != second.serial
    with pytest.raises(TokenError) as refusal:
        await open_token(first.module, "pkcs11:token=terminal", first.pin)
    assert refusal.value.reason == "token-ambiguous"
    opened = await both(first, second)
    await works(opened)
    assert [part.token.label for part in opened.parts.values()] == ["terminal", "terminal"]
    assert [part.token.serial for part in opened.parts.values()] == [first.serial, second.serial]
    there = await provision.show(second.module, second.uri, PinFile(second.directory / "other-pin"))
    assert opened.data.sha256 == there.keys[KeyRole.DATA].sha256
    assert opened.identity.sha256 != there.keys[KeyRole.IDENTITY].sha256
    await opened.close()


@pytest.mark.fault("one of two workers killed")
async def test_each_has_its_worker(pair: tuple[SoftToken, SoftToken]) -> None:
    opened = await both(*pair)
    identity, data = (part._broker for part in opened.parts.values())
    before, killed = identity.worker_pid, data.worker_pid
    assert killed is not None
    assert before not in (None, killed)
    os.kill(killed, signal.SIGKILL)
    wait_gone(killed)
    await works(opened)
    assert identity.worker_pid == before
    assert data.worker_pid != killed
    await opened.close()


async def test_which_of_the_two_failed_is_told(pair: tuple[SoftToken, SoftToken]) -> None:
    first, second = pair
    with pytest.raises(SplitTokenError) as refusal:
        await both(first, second, second.wrong_pin())
    assert refusal.value.reason == "pin-wrong"
    assert str(refusal.value).startswith("the data key's token: ")
    assert {role: error.reason for role, error in refusal.value.failed.items()} == {KeyRole.DATA: "pin-wrong"}
    absent = replace(first, uri=first.uri.replace(first.serial, "0" * 16))
    with pytest.raises(SplitTokenError) as neither:
        await both(absent, second, second.wrong_pin("again"))
    assert [error.reason for error in neither.value.failed.values()] == ["token-absent", "pin-wrong"]
    assert state_after(neither.value) is TokenState.ABSENT


async def test_an_operations_error_tells_which(pair: tuple[SoftToken, SoftToken]) -> None:
    opened = await both(*pair)
    with pytest.raises(SplitTokenError) as refusal:
        await opened.derive(bytes(65), "peer")
    assert refusal.value.reason == "bad-point"
    assert list(refusal.value.failed) == [KeyRole.DATA]
    await opened.close()


async def test_each_has_its_entry_in_the_ledger(pair: tuple[SoftToken, SoftToken], tmp_path: Path) -> None:
    first, second = pair
    wrong = second.wrong_pin()
    for reason in ("pin-wrong", "pin-refused-before"):
        with pytest.raises(SplitTokenError) as refusal:
            await both(first, second, wrong, FileLedger(tmp_path / "state"))
        assert refusal.value.reason == reason
        assert list(refusal.value.failed) == [KeyRole.DATA]
    kept = (tmp_path / "state" / "pins.json").read_text()
    assert first.serial in kept
    assert second.serial in kept


@pytest.mark.property("P2")
async def test_pins_hold_on_each(pair: tuple[SoftToken, SoftToken]) -> None:
    opened = await both(*pair)
    data, identity = opened.data, opened.identity
    await opened.close()
    with pytest.raises(SplitTokenError) as refusal:
        await both(*pair, pins=KeyPins(data=KeyPin(data.cka_id, identity.sha256)))
    assert refusal.value.reason == "key-other"
    assert list(refusal.value.failed) == [KeyRole.DATA]


async def test_a_request_for_the_data_key_alone_needs_the_name(token: SoftToken, store: Path) -> None:
    shutil.rmtree(store / "tokens")
    (store / "tokens").mkdir()
    made = await provision.initialize(token.module, "data", answering(token.so_pin_text), token.pin)
    key = await provision.generate(token.module, made.token.uri, token.pin, KeyRole.DATA)
    asked = (token.module, made.token.uri, token.pin, KeyRole.DATA, SUBJECT)
    with pytest.raises(TokenError) as refusal:
        await provision.request_certificate(*asked)
    assert refusal.value.reason == "terminal-name"
    assert "--uuid" in refusal.value.hint
    request = await provision.request_certificate(*asked, "urn:uuid:00000000-0000-4000-8000-000000000000")
    assert request.public_key() == public(key)
    assert request.is_signature_valid
