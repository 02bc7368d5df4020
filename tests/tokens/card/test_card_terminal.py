"""A terminal's keys on a PIV card, through OpenSC and through ykcs11, each as far as it goes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.opened import OpenedToken, open_token
from dongled.tokens.pin import PinFile
from support.card import bench, piv_management
from support.card.bench import DATA, IDENTITY, OPENSC, YKCS11, PivCard
from support.card.fido import AID as FIDO
from support.card.fido import FidoApplet
from support.card.fido_authenticator import Authenticator
from support.lag import MOST, lag_until
from tokens.bench import answering, new_pin, point_of, wait_gone, write_pin
from tokens.test_cli import answer, token_command
from tokens.test_faults import FakeClock, worker_of
from tokens.test_opened import public, verify
from tokens.test_provision import certify

MODULES = pytest.mark.parametrize("module", [OPENSC, YKCS11], ids=["opensc", "ykcs11"])
SUBJECT = x509.Name.from_rfc4514_string("CN=camera-1")

_GENERAL_AUTHENTICATE, _VERIFY, _GET_DATA = 0x87, 0x20, 0xCB
# What a user may be kept waiting before being told, in seconds; three times that on a busy machine.
_SOON = 3 * 2.0


async def uri_of(module: str) -> str:
    (token,) = await provision.list_tokens(module)
    return token.uri


async def opened_card(card: PivCard, module: str, pin: str | None = None) -> OpenedToken:
    return await open_token(
        module, await uri_of(module), answering(pin or card.pin_text), ledger=MemoryLedger()
    )


async def refused(asked: Awaitable[object]) -> TokenError:
    with pytest.raises(TokenError) as refusal:
        await asked
    assert refusal.value.hint
    return refusal.value


async def check_works(opened: OpenedToken, card: PivCard) -> None:
    verify(opened.identity, await opened.sign(b"d" * 32), b"d" * 32)
    peer = ec.generate_private_key(ec.SECP256R1())
    shared = await opened.derive(point_of(peer), "peer")
    assert shared == peer.exchange(ec.ECDH(), card.applet.keys.get(DATA).private.public_key())


@MODULES
async def test_signs_and_derives(card: PivCard, module: str) -> None:
    opened = await opened_card(card, module)
    assert opened.identity.point == card.point(IDENTITY)
    assert opened.data.point == card.point(DATA)
    for key in (opened.identity, opened.data):
        assert key.certificate is not None
        assert x509.load_der_x509_certificate(key.certificate).subject == SUBJECT
    for _ in range(3):
        await check_works(opened, card)
    assert opened.identity.cka_id == b"\x01"
    assert opened.data.cka_id == b"\x03"
    await opened.close()


async def test_both_modules_see_the_same_keys(card: PivCard) -> None:
    seen = []
    for module in (OPENSC, YKCS11):
        report = await provision.show(module, await uri_of(module), answering(card.pin_text))
        assert not report.refused
        seen.append({role: (key.sha256, key.certificate) for role, key in report.keys.items()})
    assert seen[0] == seen[1]
    assert set(seen[0]) == {KeyRole.IDENTITY, KeyRole.DATA}


async def test_from_a_blank_card_through_ykcs11(blank: PivCard) -> None:
    uri, pin = await uri_of(YKCS11), answering(blank.pin_text)
    officer = answering(piv_management.DEFAULT.hex())
    for role, usage in ((KeyRole.IDENTITY, "digital_signature"), (KeyRole.DATA, "key_agreement")):
        key = await provision.generate(YKCS11, uri, pin, role, officer=officer)
        shown = await provision.show(YKCS11, uri, pin)
        assert shown.keys[role].certificate is None, "the empty certificate beside a fresh key is none"
        request = await provision.request_certificate(YKCS11, uri, pin, role, SUBJECT)
        assert request.is_signature_valid
        assert request.public_key() == public(key)
        for _ in range(2):
            certificate = certify(key.point, usage=usage)
            stored = await provision.store_certificate(YKCS11, uri, pin, role, certificate, officer=officer)
            assert stored.certificate is not None
            assert x509.load_der_x509_certificate(stored.certificate) == certificate
    for module in (OPENSC, YKCS11):
        opened = await opened_card(blank, module)
        await check_works(opened, blank)
        assert opened.data.certificate == stored.certificate
        await opened.close()


def test_a_blank_card_by_the_command_line(blank: PivCard, tmp_path: Path) -> None:
    module = ("--module", YKCS11)
    (listed,) = answer("list", *module)
    login = (*module, "--uri", listed["uri"], "--pin-file", str(write_pin(tmp_path / "pin", blank.pin_text)))
    officer = ("--so-pin-file", str(write_pin(tmp_path / "officer", piv_management.DEFAULT.hex())))
    refusal = token_command("keygen", *login, "--role", "data")
    assert "[officer-needed]" in refusal.stderr
    for role, usage in (("identity", "digital_signature"), ("data", "key_agreement")):
        key = answer("keygen", *login, *officer, "--role", role)
        assert (
            "BEGIN CERTIFICATE REQUEST" in answer("csr", *login, "--role", role, "--subject", "CN=x")["csr"]
        )
        path = tmp_path / f"{role}.crt"
        path.write_bytes(certify(bytes.fromhex(key["point"]), usage=usage).public_bytes(Encoding.DER))
        answer("import-cert", *login, *officer, "--role", role, str(path))
    assert set(answer("show", *login)["keys"]) == {"identity", "data"}


async def test_a_key_is_not_overwritten(card: PivCard) -> None:
    officer = answering(piv_management.DEFAULT.hex())
    before = card.point(IDENTITY)
    error = await refused(
        provision.generate(
            YKCS11, await uri_of(YKCS11), answering(card.pin_text), KeyRole.IDENTITY, officer=officer
        )
    )
    assert error.reason == "key-exists"
    assert card.point(IDENTITY) == before


async def test_changes_need_the_management_key(blank: PivCard) -> None:
    uri, pin = await uri_of(YKCS11), answering(blank.pin_text)
    assert (await refused(provision.generate(YKCS11, uri, pin, KeyRole.DATA))).reason == "officer-needed"
    wrong = answering(bytes(24).hex())
    error = await refused(provision.generate(YKCS11, uri, pin, KeyRole.DATA, officer=wrong))
    assert error.reason == "pin-wrong"
    assert blank.applet.pin.left == 3


async def test_opensc_says_that_it_changes_nothing(card: PivCard) -> None:
    error = await refused(
        provision.generate(OPENSC, await uri_of(OPENSC), answering(card.pin_text), KeyRole.IDENTITY)
    )
    assert error.reason == "token-unable"
    assert "ykcs11" in error.hint


async def test_a_blank_card_has_no_keys(blank: PivCard) -> None:
    for module in (OPENSC, YKCS11):
        error = await refused(opened_card(blank, module))
        assert error.reason == "key-missing"
        assert "CKA_ID 03" in str(error)


async def test_an_imported_key_is_refused(card: PivCard) -> None:
    scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    card.applet.keys.put(IDENTITY, scalar.to_bytes(32, "big"))
    bench.certify(card, IDENTITY, key_agreement=False)
    assert (await refused(opened_card(card, YKCS11))).reason == "key-imported"


@pytest.mark.fault("wrong KeyUsage on the data certificate")
async def test_a_data_certificate_that_forbids_agreement(card: PivCard) -> None:
    bench.certify(card, DATA, key_agreement=False)
    assert (await refused(opened_card(card, OPENSC))).reason == "key-usage"


@MODULES
@pytest.mark.fault("wrong PIN")
async def test_a_wrong_pin_uses_one_try(card: PivCard, module: str) -> None:
    ledger, wrong, uri = MemoryLedger(), answering(new_pin()), await uri_of(module)
    reasons = []
    for _ in range(4):
        reasons.append((await refused(open_token(module, uri, wrong, ledger=ledger))).reason)
        assert card.applet.pin.left == 2
    assert reasons == ["pin-wrong", *["pin-refused-before"] * 3]
    opened = await open_token(module, uri, answering(card.pin_text), ledger=ledger)
    assert card.applet.pin.left == 3
    await opened.close()


@MODULES
@pytest.mark.fault("final try")
async def test_the_final_try_is_left_to_somebody(card: PivCard, module: str, tmp_path: Path) -> None:
    uri, pin = await uri_of(module), PinFile(write_pin(tmp_path / "pin", card.pin_text))
    card.applet.pin.left = 1
    assert (await refused(open_token(module, uri, pin, ledger=MemoryLedger()))).reason == "pin-final-try"
    assert card.applet.pin.left == 1
    opened = await opened_card(card, module)
    assert card.applet.pin.left == 3
    card.applet.pin.left = 1
    worker = worker_of(opened)
    os.kill(worker, signal.SIGKILL)
    await asyncio.to_thread(wait_gone, worker)
    card.applet.deselect()
    # Whoever answered for the first login is not asked for the next.
    assert (await refused(opened.sign(bytes(32)))).reason == "pin-final-try"
    assert card.applet.pin.left == 1
    await opened.close()


async def test_opensc_has_the_data_key_sign_nothing(card: PivCard) -> None:
    asked = provision.request_certificate(
        OPENSC, await uri_of(OPENSC), answering(card.pin_text), KeyRole.DATA, SUBJECT
    )
    assert (await refused(asked)).reason == "key-usage"
    request = await provision.request_certificate(
        OPENSC, await uri_of(OPENSC), answering(card.pin_text), KeyRole.IDENTITY, SUBJECT
    )
    assert request.is_signature_valid


@MODULES
@pytest.mark.fault("PIN blocked, and unblocked")
async def test_a_blocked_pin(card: PivCard, module: str) -> None:
    card.applet.pin.left = 0
    assert (await refused(opened_card(card, module))).reason == "pin-locked"
    fresh = new_pin()
    done = bench.tool(card, "yubico-piv-tool", "-a", "unblock-pin", "-P", card.puk_text, "-N", fresh)
    assert done.returncode == 0
    opened = await opened_card(card, module, fresh)
    await check_works(opened, card)
    await opened.close()


@MODULES
@pytest.mark.fault("pulled while idle")
async def test_pulled_while_idle(card: PivCard, module: str) -> None:
    opened = await opened_card(card, module)
    await check_works(opened, card)
    card.inserted.pull()
    before = time.monotonic()
    error = await refused(opened.sign(bytes(32)))
    assert error.reason == "token-absent"
    assert time.monotonic() - before < _SOON
    await asyncio.to_thread(card.insert)
    await check_works(opened, card)
    await opened.close()


@MODULES
@pytest.mark.parametrize("operation", ["sign", "derive"])
@pytest.mark.fault("pulled in mid-operation")
async def test_pulled_in_mid_operation(card: PivCard, module: str, operation: str) -> None:
    opened = await opened_card(card, module)
    with card.inserted.holding(_GENERAL_AUTHENTICATE) as held:
        asked = asyncio.create_task(
            opened.sign(bytes(32)) if operation == "sign" else opened.derive(card.point(IDENTITY), "peer")
        )
        assert await asyncio.to_thread(held.arrived.wait, 5)
        before = time.monotonic()
        await asyncio.to_thread(card.inserted.pull)
    error = await refused(asked)
    assert error.reason == "token-absent", error
    assert time.monotonic() - before < _SOON
    await asyncio.to_thread(card.insert)
    await check_works(opened, card)
    await opened.close()


@MODULES
@pytest.mark.fault("another card inserted")
async def test_another_card_in_its_place(card: PivCard, module: str) -> None:
    opened = await opened_card(card, module)
    card.inserted.pull()
    other = bench.piv_card(card.daemon, card.pin_text, card.puk_text, serial=0x0BADCAFE)
    bench.provision(other)
    await asyncio.to_thread(other.insert)
    try:
        # The URI names the first card by its serial number, and the other's PIN is not even tried.
        assert (await refused(opened.sign(bytes(32)))).reason == "token-other"
        assert _VERIFY not in [instruction for instruction, data in other.inserted.exchanged if len(data) > 5]
    finally:
        other.inserted.pull()
    await asyncio.to_thread(card.insert)
    await check_works(opened, card)
    await opened.close()


@pytest.mark.fault("a card of another kind, played by another emulator")
async def test_a_card_that_is_none_of_ours(card: PivCard) -> None:
    opened = await opened_card(card, YKCS11)
    card.inserted.pull()
    with bench.foreign(card):
        # To ykcs11 2.2 there is no token then, and 2.7 fails or hangs.
        assert (await refused(opened.sign(bytes(32)))).reason in ("token-absent", "token-fault")
        with suppress(TokenError):
            assert await provision.list_tokens(YKCS11) == []
    await asyncio.to_thread(card.insert)
    await check_works(opened, card)
    await opened.close()


@MODULES
@pytest.mark.fault("foreign SELECT")
async def test_another_program_selects_another_applet(card: PivCard, module: str) -> None:
    """It logs everybody out. OpenSC's own tool does it, with the card shared."""
    card.inserted.card.applets += (FidoApplet(Authenticator()),)
    opened = await opened_card(card, module)
    assert card.applet.verified
    select = "00:A4:04:00:08:" + ":".join(f"{byte:02X}" for byte in FIDO)
    done = await asyncio.to_thread(bench.tool, card, "opensc-tool", "-s", select)
    assert "SW1=0x90, SW2=0x00" in done.stdout, done.stdout + done.stderr
    assert not card.applet.verified
    await check_works(opened, card)
    assert card.applet.pin.left == 3
    await opened.close()


@MODULES
@pytest.mark.fault("a card that never answers")
async def test_a_card_that_never_answers(card: PivCard, module: str) -> None:
    opened = await open_token(
        module, await uri_of(module), answering(card.pin_text), ledger=MemoryLedger(), deadlines={"sign": 0.5}
    )
    with card.inserted.holding(_GENERAL_AUTHENTICATE):
        asked = asyncio.create_task(opened.sign(bytes(32)))
        assert await lag_until(asked) < MOST
        assert (await refused(asked)).reason == "token-timeout"
    await check_works(opened, card)
    await opened.close()


@MODULES
@pytest.mark.fault("malformed responses")
async def test_malformed_answers_are_errors(card: PivCard, module: str) -> None:
    # Each spoils the worker's session, and a real clock would make ever longer pauses before the next one.
    clock = FakeClock()
    opened = await open_token(
        module, await uri_of(module), answering(card.pin_text), ledger=MemoryLedger(), clock=clock
    )
    for spoil in (
        lambda response: response[:-4] + b"\x90\x00",
        lambda response: b"\x90\x00",
        lambda response: b"\x7c\x84\xff\xff\xff\xff" + response[6:],
        lambda response: b"\x7c\x7f" + response[2:],
        lambda response: bytes(len(response) - 2) + b"\x90\x00",
        lambda response: b"\x6f\x00",
        lambda response: b"\x00",
    ):
        with card.inserted.spoiling(_GENERAL_AUTHENTICATE, spoil), pytest.raises(TokenError):
            await opened.sign(bytes(32))
        clock.time += 120
    await check_works(opened, card)
    await opened.close()


async def test_a_certificate_does_not_change_the_uri(blank: PivCard) -> None:
    """OpenSC labels the token with a certificate's subject."""
    bench.provision(blank)
    certificates = {name: blank.applet.objects.pop(name) for name in (0x5FC105, 0x5FC10B)}
    labels, uris = set(), set()
    for _ in range(2):
        (token,) = await provision.list_tokens(OPENSC)
        labels.add(token.label)
        uris.add(token.uri)
        blank.applet.objects |= certificates
    assert len(labels) == 2
    assert len(uris) == 1
