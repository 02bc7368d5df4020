"""Opening what a terminal needs of its tokens: the identity key and the data key, on one or on two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dongled.tokens.api import KeyInfo, KeyPins, KeyRole, OperationCounts, Rank
from dongled.tokens.broker import Broker, Clock
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import PROCESS_LEDGER, PinLedger
from dongled.tokens.pin import PinSource
from dongled.tokens.session import TokenSession


@dataclass(frozen=True, slots=True)
class Place:
    """Where a token is, and what unlocks it: as the arguments of ``open_token``."""

    module: str
    uri: str
    pin: PinSource


class SplitTokenError(TokenError):
    """Of a terminal with two tokens: the error of each that failed, by its key. The first speaks for all."""

    def __init__(self, failed: Mapping[KeyRole, TokenError]) -> None:
        role, error = next(iter(failed.items()))
        super().__init__(error.reason, f"the {role.value} key's token: {error}", error.hint)
        self.failed = failed


class OpenedToken:
    """A terminal's keys (``api.TokenKeys``)."""

    def __init__(self, identity: TokenSession, data: TokenSession) -> None:
        self._identity = identity
        self._data = data

    @property
    def uri(self) -> str:
        """The identity's token."""
        return self._identity.token.uri

    @property
    def identity(self) -> KeyInfo:
        return self._identity.keys[KeyRole.IDENTITY]

    @property
    def data(self) -> KeyInfo:
        return self._data.keys[KeyRole.DATA]

    @property
    def attestation(self) -> tuple[bytes, ...]:
        """The maker's word (DER) that his token made these keys, and its issuers; may be empty."""
        return tuple(dict.fromkeys((*self._identity.attestation, *self._data.attestation)))

    @property
    def operations(self) -> OperationCounts:
        return OperationCounts(sign=self._identity.operations.sign, derive=self._data.operations.derive)

    @property
    def parts(self) -> Mapping[KeyRole, TokenSession]:
        """The token, by ``IDENTITY``; the data key's by ``DATA`` where it is another."""
        if self._data is self._identity:
            return {KeyRole.IDENTITY: self._identity}
        return {KeyRole.IDENTITY: self._identity, KeyRole.DATA: self._data}

    def lost(self, role: KeyRole, error: TokenError) -> TokenError:
        """The error of a part as one of the whole."""
        return error if self._data is self._identity else SplitTokenError({role: error})

    async def sign(self, digest: bytes, rank: Rank = Rank.ANNOUNCEMENT) -> bytes:
        with self._telling(KeyRole.IDENTITY):
            return await self._identity.sign(KeyRole.IDENTITY, digest, rank)

    async def derive(self, point: bytes, peer: str) -> bytes:
        with self._telling(KeyRole.DATA):
            return await self._data.derive(KeyRole.DATA, point, peer)

    async def close(self) -> None:
        for session in self.parts.values():
            await session.close()

    @contextmanager
    def _telling(self, role: KeyRole) -> Iterator[None]:
        """Say which of two tokens an error is of."""
        try:
            yield
        except TokenError as error:
            told = self.lost(role, error)
            if told is error:
                raise
            raise told from error


async def open_token(
    module: str,
    uri: str,
    pin: PinSource,
    pins: KeyPins | None = None,
    *,
    data: Place | None = None,
    ledger: PinLedger = PROCESS_LEDGER,
    clock: Clock | None = None,
    deadlines: dict[str, float] | None = None,
) -> OpenedToken:
    """Log in to the token that the RFC 7512 URI names, check its keys, and keep it open.

    ``module`` is the path of its PKCS#11 module. ``pins`` says which token and keys it has to be.
    ``data``: the data key is on this other token, and both are opened. ``deadlines`` overrides the seconds
    that an operation (``"sign"``, ``"derive"``, ...) may take. Raises TokenError.
    """

    def session(place: Place, *roles: KeyRole) -> TokenSession:
        broker = Broker(place.module, clock=clock, deadlines=deadlines)
        return TokenSession(broker, place.uri, place.pin, frozenset(roles), pins, ledger=ledger)

    first = Place(module, uri, pin)
    if data is None:
        both = session(first, KeyRole.IDENTITY, KeyRole.DATA)
        opened = OpenedToken(both, both)
    else:
        opened = OpenedToken(session(first, KeyRole.IDENTITY), session(data, KeyRole.DATA))
    try:
        await _open(opened)
    except BaseException:
        await opened.close()
        raise
    return opened


async def _open(opened: OpenedToken) -> None:
    """Every part, even if the first fails: whoever mends it should hear of all at once."""
    results = await asyncio.gather(*(part.open() for part in opened.parts.values()), return_exceptions=True)
    failed: dict[KeyRole, TokenError] = {}
    for role, result in zip(opened.parts, results, strict=True):
        if isinstance(result, TokenError):
            failed[role] = result
        elif result is not None:
            raise result
    if len(opened.parts) == 1 and failed:
        raise failed[KeyRole.IDENTITY]
    if failed:
        raise SplitTokenError(failed)
