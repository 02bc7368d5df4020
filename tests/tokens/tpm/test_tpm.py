"""A TPM through tpm2-pkcs11: it signs, says what it cannot do, and comes back after its faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cryptography import x509

from dongled.tokens import provision, rotation
from dongled.tokens.api import KeyPins, KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import MemoryLedger
from dongled.tokens.opened import Place, open_token
from dongled.tokens.session import TokenSession, open_session
from dongled.tokens.state import TokenState, state_after
from support.tpm.bench import MODULE, SIGN, URI, TpmToken
from tokens.bench import SoftToken, answering, new_pin
from tokens.test_opened import verify
from tokens.test_provision import certify

IDENTITY = frozenset({KeyRole.IDENTITY})


@pytest.fixture
async def session(tpm: TpmToken) -> AsyncIterator[TokenSession]:
    opened = await open_session(MODULE, URI, tpm.pin, IDENTITY, ledger=MemoryLedger())
    yield opened
    await opened.close()


async def signs(session: TokenSession) -> None:
    verify(session.keys[KeyRole.IDENTITY], await session.sign(KeyRole.IDENTITY, b"d" * 32), b"d" * 32)


async def test_an_identity_from_blank_to_certified_and_rotated(tpm: TpmToken) -> None:
    (listed, blank) = await provision.list_tokens(MODULE)
    assert listed.label == "tpm"
    assert not blank.initialized
    report = await provision.show(MODULE, URI, tpm.pin)
    key = report.keys[KeyRole.IDENTITY]
    assert key.attributes.local
    assert key.attributes.never_extractable
    assert not key.attributes.derive
    request = await provision.request_certificate(
        MODULE, URI, tpm.pin, KeyRole.IDENTITY, x509.Name.from_rfc4514_string("CN=camera-1")
    )
    assert request.is_signature_valid
    certificate = certify(key.point, usage="digital_signature")
    stored = await provision.store_certificate(MODULE, URI, tpm.pin, KeyRole.IDENTITY, certificate)
    assert stored.certificate is not None
    assert x509.load_der_x509_certificate(stored.certificate) == certificate

    place = Place(MODULE, URI, tpm.pin)
    following = await rotation.begin(place, KeyRole.IDENTITY, stored.pin)
    assert (await provision.show(MODULE, URI, tpm.pin)).keys == {KeyRole.IDENTITY: stored}
    certificate = certify(following.point, usage="digital_signature")
    pins = KeyPins.to(KeyRole.IDENTITY, following.pin)
    await provision.store_certificate(MODULE, URI, tpm.pin, KeyRole.IDENTITY, certificate, pins=pins)
    await rotation.finish(place, KeyRole.IDENTITY, following.pin)
    async with provision.session_of(MODULE, URI, tpm.pin, IDENTITY) as session:
        await signs(session)
        assert session.keys[KeyRole.IDENTITY].pin == following.pin
        assert len(await session.found_keys()) == len(await session.found_certificates()) == 1


async def test_a_tpm_without_key_agreement_says_so(tpm: TpmToken) -> None:
    """Of Debian 12's tpm2-pkcs11, asked for its mechanisms; nothing is left on the TPM."""
    for asked in (
        provision.generate(MODULE, URI, tpm.pin, KeyRole.DATA),
        open_token(MODULE, URI, tpm.pin, ledger=MemoryLedger()),
    ):
        with pytest.raises(TokenError) as refusal:
            await asked
        assert refusal.value.reason == "key-agreement"
        assert "another token" in refusal.value.hint
        assert state_after(refusal.value) is TokenState.FAULT
    assert set((await provision.show(MODULE, URI, tpm.pin)).keys) == {KeyRole.IDENTITY}


async def test_the_probe_asks_the_module(session: TokenSession, token: SoftToken) -> None:
    with pytest.raises(TokenError, match="CKM_ECDH1_DERIVE"):
        await session.check_agrees()
    other = await open_session(token.module, token.uri, token.pin, IDENTITY)
    await other.check_agrees()
    await other.close()


@pytest.mark.fault("TPM locked out, and cleared")
async def test_a_lock_out_passes(tpm: TpmToken) -> None:
    """After somebody else's wrong PINs the right one is not judged, so neither is it taken for refused."""
    for _ in range(4):
        with pytest.raises(TokenError):
            await open_session(MODULE, URI, answering(new_pin()), IDENTITY, ledger=MemoryLedger())
    ledger = MemoryLedger()
    for _ in range(3):
        with pytest.raises(TokenError) as refusal:
            await open_session(MODULE, URI, tpm.pin, IDENTITY, ledger=ledger)
        assert refusal.value.reason == "pin-locked"
        assert "tpm2_dictionarylockout" in refusal.value.hint
        assert state_after(refusal.value) is TokenState.PIN_BLOCKED
    await asyncio.to_thread(tpm.tool, "tpm2_dictionarylockout", "--clear-lockout")
    opened = await open_session(MODULE, URI, tpm.pin, IDENTITY, ledger=ledger)
    await signs(opened)
    await opened.close()


@pytest.mark.fault("wrong PIN")
async def test_a_wrong_pin_is_tried_once(tpm: TpmToken) -> None:
    ledger, wrong = MemoryLedger(), answering(new_pin())
    reasons = []
    for _ in range(5):
        with pytest.raises(TokenError) as refusal:
            await open_session(MODULE, URI, wrong, IDENTITY, ledger=ledger)
        reasons.append(refusal.value.reason)
    assert reasons == ["pin-wrong", *["pin-refused-before"] * 4]
    opened = await open_session(MODULE, URI, tpm.pin, IDENTITY, ledger=ledger)
    await opened.close()


@pytest.mark.fault("TPM restarted in mid-operation")
async def test_a_tpm_that_restarts_in_mid_operation(tpm: TpmToken, session: TokenSession) -> None:
    await signs(session)
    before = session._broker.worker_pid
    with tpm.tpm.holding(SIGN) as held:
        asked = asyncio.create_task(session.sign(KeyRole.IDENTITY, b"d" * 32))
        assert await asyncio.to_thread(held.arrived.wait, 10)
        await asyncio.to_thread(tpm.tpm.stop)
        await asyncio.to_thread(tpm.tpm.start)
    verify(session.keys[KeyRole.IDENTITY], await asked, b"d" * 32)
    assert session._broker.worker_pid != before
    await signs(session)


@pytest.mark.fault("TPM restarted while idle")
async def test_a_tpm_that_restarts_while_idle(tpm: TpmToken, session: TokenSession) -> None:
    await signs(session)
    await asyncio.to_thread(tpm.tpm.stop)
    with pytest.raises(TokenError) as refusal:
        await session.sign(KeyRole.IDENTITY, b"d" * 32)
    assert refusal.value.reason == "module-unusable"
    await asyncio.to_thread(tpm.tpm.start)
    await signs(session)


@pytest.mark.fault("TPM cleared by its owner")
async def test_a_cleared_tpm_has_no_keys(tpm: TpmToken, session: TokenSession) -> None:
    await signs(session)
    await asyncio.to_thread(tpm.tool, "tpm2_clear", "-c", "p")
    with pytest.raises(TokenError) as refusal:
        await session.sign(KeyRole.IDENTITY, b"d" * 32)
    assert refusal.value.reason == "token-fault"
