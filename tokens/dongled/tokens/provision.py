"""From a blank token to a terminal's: initialise, generate, ask for certificates, store them, look at it."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from dongled.tokens import checks, describe
from dongled.tokens.api import KeyInfo, KeyPins, KeyRole, TokenInfo
from dongled.tokens.broker import Broker
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import PROCESS_LEDGER, PinLedger
from dongled.tokens.pin import PinSource
from dongled.tokens.private_key import TokenPrivateKey
from dongled.tokens.session import TokenSession, open_session

LABEL_BYTES = 32
_CKA_ID_BYTES = 16
_BLANK = "a token that nobody initialised"

# What each role's key may do; the data key signs nothing but the request for its own certificate.
_MAY_DERIVE = frozenset({KeyRole.DATA})


@dataclass(frozen=True, slots=True)
class Initialized:
    """The token, and whether anything had to be done to it."""

    token: TokenInfo
    changed: bool


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What is on a token: usable keys, and for each unusable one why it is refused."""

    token: TokenInfo
    keys: Mapping[KeyRole, KeyInfo]
    refused: Mapping[KeyRole, TokenError]


async def list_tokens(module: str) -> list[TokenInfo]:
    """The tokens that a module sees, blank ones included. Raises TokenError."""
    async with _broker(module) as broker:
        return [token.info for token in describe.tokens(await broker.call("tokens"))]


async def initialize(
    module: str, label: str, so_pin: PinSource, pin: PinSource, *, erase: str | None = None
) -> Initialized:
    """Give a blank token a label and its PINs; one that has the label already is left as it is.

    ``erase`` is the serial number of a token that may be wiped for it. Raises TokenError.
    """
    if not 0 < len(label.encode()) <= LABEL_BYTES or not label.isprintable():
        raise TokenError("label", f"a token's label is 1 to {LABEL_BYTES} bytes of text", "choose another")
    async with _broker(module) as broker:
        found = describe.tokens(await broker.call("tokens"))
        chosen = _to_initialize(found, label, erase)
        labelled = erase is None and chosen.info.initialized
        if labelled and chosen.info.pin_set:
            return Initialized(chosen.info, changed=False)
        # Both before anything is wiped, so that a missing PIN leaves the token as it was.
        officer = (await asyncio.to_thread(so_pin.read)).reveal()
        user = (await asyncio.to_thread(pin.read)).reveal()
        if not labelled:
            await broker.call(
                "init_token", slot=chosen.slot, serial=chosen.info.serial, so_pin=officer, label=label
            )
        await broker.call("init_pin", slot=chosen.slot, so_pin=officer, pin=user)
        now = describe.tokens(await broker.call("tokens"))
        return Initialized(next(token.info for token in now if token.slot == chosen.slot), changed=True)


def _to_initialize(found: list[describe.FoundToken], label: str, erase: str | None) -> describe.FoundToken:
    """The token to initialise, or the one that is already. Raises TokenError."""
    labelled = [token for token in found if token.info.initialized and token.info.label == label]
    if erase is not None:
        if any(token.info.serial != erase for token in labelled):
            raise TokenError(
                "label-taken", f"another token is labelled {label!r} already", "choose another label"
            )
        candidates = [token for token in found if token.info.initialized and token.info.serial == erase]
        wanted, hint = f"a token with serial number {erase}", "`dongled token list` shows serial numbers"
    elif labelled:
        candidates, wanted, hint = labelled, f"the one token labelled {label!r}", "choose another label"
    else:
        candidates = [token for token in found if not token.info.initialized]
        wanted = _BLANK
        hint = "insert one blank token, or name one that may be wiped with --erase SERIAL"
    if len(candidates) != 1:
        raise TokenError(
            "token-absent" if not candidates else "token-ambiguous",
            f"looking for {wanted}, found {len(candidates)}",
            hint,
        )
    return candidates[0]


async def generate(
    module: str,
    uri: str,
    pin: PinSource,
    role: KeyRole,
    *,
    officer: PinSource | None = None,
    ledger: PinLedger = PROCESS_LEDGER,
) -> KeyInfo:
    """Generate a role's key on the token; refuses to add a second one. Raises TokenError.

    ``officer`` is the security officer's PIN, for tokens that take keys from no one else.
    """
    async with session_of(module, uri, pin, writable=True, officer=officer, ledger=ledger) as session:
        quirks = session.quirks
        if role is KeyRole.DATA:
            await session.check_agrees()
        if any(quirks.is_for(role, key.cka_id, key.label) for key in await session.found_keys()):
            raise TokenError(
                "key-exists",
                f"the token holds the {role.value} key already",
                "nothing is overwritten: use that key, or initialise the token anew",
            )
        if quirks.places and role not in quirks.places:
            raise TokenError("token-unable", f"the token has no place for the {role.value} key")
        await make_pair(session, role, role.value)
        key, point = checks.the_key(role, await session.found_keys(), None, quirks)
        return checks.key_info(role, key, point, ())


async def make_pair(session: TokenSession, role: KeyRole, label: str) -> None:
    """Generate a key pair for a role, under a CKA_ID of its own or that of its place. Raises TokenError."""
    quirks = session.quirks
    await session.call(
        "generate",
        key=quirks.places.get(role) or secrets.token_bytes(_CKA_ID_BYTES),
        label=label,
        sign=True,
        derive=role in _MAY_DERIVE,
        extractable_settable=quirks.extractable_settable,
        uses_settable=quirks.uses_settable,
    )


def terminal_of(identity: KeyInfo) -> str:
    """A terminal's name for as long as it has this identity key: ``urn:uuid:...`` (RFC 9562, 5.5).

    Both its certificates carry it, and neither request needs to be told of the other.
    """
    return uuid.uuid5(uuid.NAMESPACE_OID, f"dongled identity {identity.sha256.hex()}").urn


async def request_certificate(
    module: str,
    uri: str,
    pin: PinSource,
    role: KeyRole,
    subject: x509.Name,
    terminal: str | None = None,
    *,
    pins: KeyPins | None = None,
    ledger: PinLedger = PROCESS_LEDGER,
) -> x509.CertificateSigningRequest:
    """A PKCS#10 request for a terminal's key, signed by that key on the token.

    ``terminal`` is the ``urn:uuid:`` that goes into the subject's alternative name; by default it comes
    from the identity key. ``pins`` say which key, where its label does not. Raises TokenError.
    """
    async with session_of(module, uri, pin, frozenset({role}), pins, ledger=ledger) as session:
        name = _terminal(terminal) if terminal is not None else terminal_of(await _identity(session))
        builder = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(subject)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=False
            )
            .add_extension(_key_usage(role), critical=True)
        )
        loop = asyncio.get_running_loop()

        def sign(digest: bytes) -> bytes:
            return asyncio.run_coroutine_threadsafe(session.sign(role, digest), loop).result()

        key = TokenPrivateKey.from_point(session.keys[role].point, sign=sign)
        return await asyncio.to_thread(builder.sign, key, hashes.SHA256())


async def _identity(session: TokenSession) -> KeyInfo:
    """The identity key beside a role's."""
    if KeyRole.IDENTITY in session.keys:
        return session.keys[KeyRole.IDENTITY]
    try:
        key, point = checks.the_key(KeyRole.IDENTITY, await session.found_keys(), None, session.quirks)
    except TokenError as error:
        if error.reason != "key-missing":
            raise
        raise TokenError(
            "terminal-name",
            "the identity key, which names the terminal, is not on this token",
            "name it with --uuid as the identity key's own request does",
        ) from None
    return checks.key_info(KeyRole.IDENTITY, key, point, ())


async def store_certificate(
    module: str,
    uri: str,
    pin: PinSource,
    role: KeyRole,
    certificate: x509.Certificate,
    *,
    pins: KeyPins | None = None,
    officer: PinSource | None = None,
    ledger: PinLedger = PROCESS_LEDGER,
) -> KeyInfo:
    """Store a role's certificate on the token, in place of an earlier one. Raises TokenError.

    ``officer`` is the security officer's PIN, for tokens that take certificates from no one else.
    ``pins`` say which key, where its label does not.
    """
    der = certificate.public_bytes(serialization.Encoding.DER)
    only = frozenset({role})
    writing = session_of(module, uri, pin, only, pins, writable=True, officer=officer, ledger=ledger)
    async with writing as session:
        key = session.keys[role]
        if describe.certified_point(der) != key.point:
            raise TokenError(
                "certificate-other-key",
                f"the certificate is not for the token's {role.value} key",
                "have the request that `dongled token csr` wrote certified, and check which role it was for",
            )
        check_usage(role, certificate)
        await session.call(
            "store_certificate",
            key=key.cka_id,
            label=key.label,
            der=der,
            subject=certificate.subject.public_bytes(),
            issuer=certificate.issuer.public_bytes(),
            number=_der_integer(certificate.serial_number),
            in_place=bool(session.quirks.places),
        )
    # Read back by another worker: a module may remember what it wrote, and ykcs11 forgets who made the key.
    async with session_of(module, uri, pin, only, pins, ledger=ledger) as session:
        return session.keys[role]


async def show(module: str, uri: str, pin: PinSource, *, ledger: PinLedger = PROCESS_LEDGER) -> TokenReport:
    """What the token holds for each role, and what is wrong with it. Raises TokenError."""
    async with session_of(module, uri, pin, ledger=ledger) as session:
        found = await session.found_keys()
        certificates = await session.found_certificates()
        keys: dict[KeyRole, KeyInfo] = {}
        refused: dict[KeyRole, TokenError] = {}
        for role in KeyRole:
            try:
                key, point = checks.the_key(role, found, None, session.quirks)
            except TokenError as error:
                if error.reason != "key-missing":
                    refused[role] = error
            else:
                keys[role] = checks.key_info(role, key, point, certificates)
        return TokenReport(session.token, keys, refused)


async def attestation(
    module: str, uri: str, pin: PinSource, role: KeyRole, *, ledger: PinLedger = PROCESS_LEDGER
) -> tuple[KeyInfo, tuple[bytes, ...]]:
    """A role's key, the maker's word for it and its issuers (DER). Raises TokenError ``token-unable``."""
    async with session_of(module, uri, pin, frozenset({role}), ledger=ledger) as session:
        if not session.attestation:
            raise TokenError(
                "token-unable",
                f"through this module the token says nothing of where its {role.value} key was made",
                "a YubiKey attests to keys that it generated, and shows it through its own module, ykcs11",
            )
        return session.keys[role], session.attestation


def _terminal(given: str) -> str:
    try:
        return uuid.UUID(given).urn
    except ValueError:
        raise TokenError(
            "terminal-name", f"{given!r} is not a UUID", "give urn:uuid:..., the same for both keys"
        ) from None


def _key_usage(role: KeyRole) -> x509.KeyUsage:
    """RFC 5280, 4.2.1.3: a key either signs or agrees. OpenSC lets no key derive without keyAgreement."""
    return x509.KeyUsage(
        digital_signature=role is not KeyRole.DATA,
        key_agreement=role is KeyRole.DATA,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def check_usage(role: KeyRole, certificate: x509.Certificate) -> None:
    """Does the certificate let the key do what its role needs? Raises TokenError."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise TokenError("certificate-malformed", "the certificate's extensions cannot be read") from None
    needed = {
        KeyRole.IDENTITY: ("digitalSignature", usage.digital_signature),
        KeyRole.DATA: ("keyAgreement", usage.key_agreement),
        KeyRole.CA: ("keyCertSign", usage.key_cert_sign),
    }
    name, there = needed[role]
    if not there:
        raise TokenError(
            "certificate-usage",
            f"the certificate's key usage lacks {name}, which the {role.value} key needs",
            "have it issued again; some modules would refuse to use the key at all",
        )


def _der_integer(number: int) -> bytes:
    """CKA_SERIAL_NUMBER is the DER of the certificate's serial number (PKCS#11 v3.0, 4.6.3)."""
    content = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes((0x02, len(content))) + content


@asynccontextmanager
async def _broker(module: str) -> AsyncIterator[Broker]:
    broker = Broker(module)
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def session_of(
    module: str,
    uri: str,
    pin: PinSource,
    roles: frozenset[KeyRole] = frozenset(),
    pins: KeyPins | None = None,
    *,
    writable: bool = False,
    officer: PinSource | None = None,
    ledger: PinLedger = PROCESS_LEDGER,
) -> AsyncIterator[TokenSession]:
    """A token's keys for as long as the context lasts (``open_session``). Raises TokenError."""
    session = await open_session(
        module, uri, pin, roles, pins, writable=writable, officer=officer, ledger=ledger
    )
    try:
        yield session
    finally:
        await session.close()
