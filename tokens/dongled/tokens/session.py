"""A token that is logged in to, through whatever workers live and die meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from dongled.tokens import checks, describe
from dongled.tokens.api import KeyInfo, KeyPin, KeyPins, KeyRole, OperationCounts, Rank, TokenInfo
from dongled.tokens.broker import FIRST, Ask, Broker
from dongled.tokens.errors import TokenError
from dongled.tokens.failures import ModuleFault
from dongled.tokens.ledger import PROCESS_LEDGER, PinLedger
from dongled.tokens.pin import NoPin, PinSource
from dongled.tokens.quirks import NONE, Quirks, Watch
from dongled.tokens.turns import Place
from dongled.tokens.uri import parse_token

DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
SECRET_BYTES = 32
POINT_BYTES = 65


class TokenSession:
    """Keys of one token by role, checked at each opening (``checks``), and their two operations.

    Every new worker logs in again and checks again, and refuses keys that are not those of the first
    opening. With ``writable`` the session may change the token; ``officer`` is the security officer's PIN,
    for tokens that take changes from no one else.
    """

    def __init__(
        self,
        broker: Broker,
        uri: str,
        pin: PinSource,
        roles: frozenset[KeyRole],
        pins: KeyPins | None = None,
        *,
        ledger: PinLedger = PROCESS_LEDGER,
        writable: bool = False,
        officer: PinSource | None = None,
    ) -> None:
        self._uri = parse_token(uri)
        self._broker = broker
        self._pin = pin
        self._roles = roles
        self._pins = pins
        self._ledger = ledger
        self._writable = writable
        self._officer = officer
        self._keys: dict[KeyRole, KeyInfo] = {}
        self._token: TokenInfo | None = None
        self._quirks = NONE
        self._slot = ""
        self._attestation: tuple[bytes, ...] = ()
        self._signed = 0
        self._derived = 0

    async def open(self) -> None:
        """Log in and check. Raises TokenError."""
        self._broker.add_opener(self._open)
        await self._broker.call("tokens")

    @property
    def token(self) -> TokenInfo:
        if self._token is None:
            raise TokenError("token-closed", "the token is not open")
        return self._token

    @property
    def keys(self) -> Mapping[KeyRole, KeyInfo]:
        return self._keys

    @property
    def quirks(self) -> Quirks:
        """What holds of the token besides PKCS#11."""
        return self._quirks

    @property
    def watch(self) -> Watch:
        """How its removal is noticed."""
        return self._quirks.watch

    @property
    def slot(self) -> str:
        """What its module calls its slot; with ``Watch.READER`` the reader's name, cut short."""
        return self._slot

    @property
    def attestation(self) -> tuple[bytes, ...]:
        """The maker's word (DER) that the token made the keys, and its issuers; may be empty."""
        return self._attestation

    async def check_there(self) -> None:
        """Raises TokenError ``token-absent`` if the module no longer shows it."""
        found = describe.tokens(await self._broker.call("tokens"))
        if not any(token.info.serial == self.token.serial for token in found):
            raise TokenError("token-absent", "the token was removed", "insert it again")

    async def check_agrees(self) -> None:
        """Raises TokenError ``key-agreement`` if the token has no ECDH."""
        checks.check_agrees(self.token, await self.call("agrees"))

    async def found_keys(self) -> list[describe.FoundKey]:
        """Every elliptic-curve private key on the token. Raises TokenError."""
        return describe.keys(await self.call("keys"))

    async def found_certificates(self) -> list[describe.FoundCertificate]:
        """Every certificate of a key on the token. Raises TokenError."""
        return describe.certificates(await self.call("certificates"), self._quirks)

    @property
    def operations(self) -> OperationCounts:
        return OperationCounts(sign=self._signed, derive=self._derived)

    async def sign(self, role: KeyRole, digest: bytes, rank: Rank = Rank.ANNOUNCEMENT) -> bytes:
        """ECDSA over a 32-byte digest: 64 bytes, r and s. Raises TokenError."""
        if len(digest) != DIGEST_BYTES:
            raise TokenError("bad-digest", "a token's key signs SHA-256 digests only")
        answer = await self.call("sign", Place(rank), key=self._keys[role].cka_id, digest=bytes(digest))
        self._signed += 1
        return describe.octets(answer, SIGNATURE_BYTES)

    async def derive(self, role: KeyRole, point: bytes, peer: str) -> bytes:
        """ECDH with a 65-byte point, for a peer: the 32-byte x coordinate. Raises TokenError."""
        place = Place(Rank.GRANT, peer)
        answer = await self.call("derive", place, key=self._keys[role].cka_id, point=bytes(point))
        self._derived += 1
        return describe.octets(answer, SECRET_BYTES)

    async def call(self, operation: str, place: Place = FIRST, **arguments: Any) -> Any:
        """Ask the worker for an operation on this token."""
        return await self._broker.call(operation, place, serial=self.token.serial, **arguments)

    async def close(self) -> None:
        """End the worker, and with it the login."""
        await self._broker.close()

    async def _open(self, ask: Ask) -> None:
        found = describe.tokens(await ask("tokens"))
        token = checks.the_token(self._uri, found, self._pins, attended=self._pin.attended)
        if self._token is not None and token.info.serial != self._token.serial:
            raise TokenError(
                "token-other",
                f"the token's serial number is {token.info.serial}; it was {self._token.serial}",
                "insert the token that this was started with",
            )
        await self._log_in(ask, token)
        if KeyRole.DATA in self._roles:
            checks.check_agrees(token.info, await ask("agrees", serial=token.info.serial))
        stored = describe.keys(await ask("keys", serial=token.info.serial))
        certified = await ask("certificates", serial=token.info.serial)
        certificates = describe.certificates(certified, token.quirks)
        keys = {}
        for role in sorted(self._roles):
            key, point = checks.the_key(role, stored, self._pin_of(role), token.quirks)
            keys[role] = checks.key_info(role, key, point, certificates)
        checks.check_same(self._keys, keys)
        self._keys = keys
        ids = [key.cka_id for key in keys.values()]
        self._attestation = describe.attestation(certified, token.quirks, ids)
        self._token = token.info
        self._quirks = token.quirks
        self._slot = token.names.get("slot-description", "")

    async def _log_in(self, ask: Ask, token: describe.FoundToken) -> None:
        serial = token.info.serial
        # Version before PIN: a file that changes in between counts as its older self, never as tried.
        if self._writable and not token.quirks.changes:
            raise TokenError(
                "token-unable",
                "this module cannot put keys or certificates on this token",
                "use the token's own module or tool for it: ykcs11 for a YubiKey, OpenSC's piv-tool for PIV",
            )
        officer = self._writable and token.quirks.officer_writes
        source = self._officer if officer else self._pin
        if source is None:
            raise TokenError(
                "officer-needed",
                "this token takes changes only from its security officer",
                "give the SO PIN as well; of a PIV card that is the management key, in hexadecimal digits",
            )
        writable = self._writable or (token.quirks.derives_writable and KeyRole.DATA in self._roles)
        if isinstance(source, NoPin):
            await ask("login", slot=token.slot, serial=serial, pin=None, writable=writable, officer=False)
            return
        version = await asyncio.to_thread(source.version)
        # Before anybody is asked for what would not be tried.
        await self._ledger.check(serial, version, source.description)
        pin = await asyncio.to_thread(source.read)
        async with self._ledger.attempt(serial, version, source.description):
            try:
                await ask(
                    "login",
                    slot=token.slot,
                    serial=serial,
                    pin=pin.reveal(),
                    writable=writable,
                    officer=officer,
                )
            except ModuleFault as fault:
                if fault.name == "PinLocked" and token.quirks.lock_passes:
                    raise _locked_out() from None
                raise

    def _pin_of(self, role: KeyRole) -> KeyPin | None:
        if self._pins is None:
            return None
        return {KeyRole.IDENTITY: self._pins.identity, KeyRole.DATA: self._pins.data}.get(role)


def _locked_out() -> TokenError:
    """Not what the module said, but what it means: the PIN was not judged."""
    return TokenError(
        "pin-locked",
        "the TPM is locked out after wrong PINs, and judges none for now",
        "find out who tried them; it ends by itself in time, or with tpm2_dictionarylockout --clear-lockout",
    )


async def open_session(
    module: str,
    uri: str,
    pin: PinSource,
    roles: frozenset[KeyRole],
    pins: KeyPins | None = None,
    *,
    writable: bool = False,
    officer: PinSource | None = None,
    ledger: PinLedger = PROCESS_LEDGER,
) -> TokenSession:
    """Open keys of a token in a worker of their own. Raises TokenError."""
    session = TokenSession(
        Broker(module), uri, pin, roles, pins, writable=writable, officer=officer, ledger=ledger
    )
    try:
        await session.open()
    except BaseException:
        await session.close()
        raise
    return session
