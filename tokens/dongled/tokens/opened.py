"""Opening what a terminal needs of its token: the identity key and the data key."""

from __future__ import annotations

from dongled.tokens.api import KeyInfo, KeyPins, KeyRole, OperationCounts, Rank
from dongled.tokens.broker import Broker, Clock
from dongled.tokens.ledger import PROCESS_LEDGER, PinLedger
from dongled.tokens.pin import PinSource
from dongled.tokens.quirks import Watch
from dongled.tokens.session import TokenSession


class OpenedToken:
    """A terminal's keys (``api.TokenKeys``). The two may come to live on two tokens, hence two sessions."""

    def __init__(self, identity: TokenSession, data: TokenSession) -> None:
        self._identity = identity
        self._data = data

    @property
    def uri(self) -> str:
        return self._identity.token.uri

    @property
    def identity(self) -> KeyInfo:
        return self._identity.keys[KeyRole.IDENTITY]

    @property
    def data(self) -> KeyInfo:
        return self._data.keys[KeyRole.DATA]

    @property
    def operations(self) -> OperationCounts:
        return OperationCounts(sign=self._identity.operations.sign, derive=self._data.operations.derive)

    @property
    def watch(self) -> Watch:
        """How its removal is noticed."""
        return self._identity.quirks.watch

    @property
    def slot(self) -> str:
        """What its module calls its slot; with ``Watch.READER`` the reader's name, cut short."""
        return self._identity.slot

    async def check_there(self) -> None:
        """Ask the module whether it is still there. Raises TokenError."""
        await self._identity.check_there()

    async def sign(self, digest: bytes, rank: Rank = Rank.ANNOUNCEMENT) -> bytes:
        return await self._identity.sign(KeyRole.IDENTITY, digest, rank)

    async def derive(self, point: bytes, peer: str) -> bytes:
        return await self._data.derive(KeyRole.DATA, point, peer)

    async def close(self) -> None:
        await self._identity.close()
        if self._data is not self._identity:
            await self._data.close()


async def open_token(
    module: str,
    uri: str,
    pin: PinSource,
    pins: KeyPins | None = None,
    *,
    ledger: PinLedger = PROCESS_LEDGER,
    clock: Clock | None = None,
    deadlines: dict[str, float] | None = None,
) -> OpenedToken:
    """Log in to the token that the RFC 7512 URI names, check its keys, and keep it open.

    ``module`` is the path of its PKCS#11 module. ``pins`` says which token and keys it has to be.
    ``deadlines`` overrides the seconds that an operation (``"sign"``, ``"derive"``, ...) may take.
    Raises TokenError.
    """
    broker = Broker(module, clock=clock, deadlines=deadlines)
    try:
        both = frozenset({KeyRole.IDENTITY, KeyRole.DATA})
        session = TokenSession(broker, uri, pin, both, pins, ledger=ledger)
        await session.open()
    except BaseException:
        await broker.close()
        raise
    return OpenedToken(session, session)
