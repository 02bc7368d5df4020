"""What the checks of a token look at: where it is by the settings, and what it answers, asked once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from dongled.agent import wiring
from dongled.agent.doctor.api import Check, Finding, skipped
from dongled.agent.enrolment.kept import KeptChains
from dongled.config.api import KeyPin, Settings, TokenPlace
from dongled.tokens import describe
from dongled.tokens.api import KeyInfo, KeyRole
from dongled.tokens.broker import Broker
from dongled.tokens.checks import named_token
from dongled.tokens.describe import FoundToken
from dongled.tokens.errors import TokenError
from dongled.tokens.ledger import PinLedger
from dongled.tokens.opened import Place
from dongled.tokens.session import TokenSession, open_session
from dongled.tokens.uri import parse_token


@dataclass(frozen=True, slots=True)
class Part:
    """One token and the keys that are on it. ``about`` tells two apart, and is empty where there is one."""

    about: str
    roles: tuple[KeyRole, ...]
    place: Callable[[], Place]


@dataclass(slots=True)
class TokenCase:
    """``occupied``: a daemon uses the token, so nobody logs in beside it. ``close`` it in the end."""

    settings: Settings
    ledger: PinLedger
    occupied: bool
    parts: tuple[Part, ...] = ()
    _found: dict[str, list[FoundToken]] = field(default_factory=dict)
    _sessions: dict[Part, TokenSession | TokenError] = field(default_factory=dict)

    def pin(self, role: KeyRole) -> KeyPin:
        """What the settings say of a key."""
        assert self.settings.token is not None
        return self.settings.token.data if role is KeyRole.DATA else self.settings.token.identity

    def place(self, part: Part) -> TokenPlace:
        """What the settings say of a token."""
        second = self.settings.data_token if part.roles == (KeyRole.DATA,) else None
        place = second or self.settings.token
        assert place is not None
        return place

    async def found(self, part: Part) -> list[FoundToken]:
        """Every token that the part's module sees, without a PIN. Raises TokenError."""
        module = part.place().module
        if module not in self._found:
            broker = Broker(module)
            try:
                self._found[module] = describe.tokens(await broker.call("tokens"))
            finally:
                await broker.close()
        return self._found[module]

    async def token(self, part: Part) -> FoundToken:
        """The one that the URI names, whatever its PIN's state. Raises TokenError."""
        return named_token(parse_token(part.place().uri), await self.found(part))

    async def session(self, part: Part) -> TokenSession:
        """Logged in, with the one try that the ledger leaves; no key was looked at. Raises TokenError."""
        if part not in self._sessions:
            place = part.place()
            try:
                self._sessions[part] = await open_session(
                    place.module, place.uri, place.pin, frozenset(), ledger=self.ledger
                )
            except TokenError as error:
                self._sessions[part] = error
        session = self._sessions[part]
        if isinstance(session, TokenError):
            raise session
        return session

    def chain(self, role: KeyRole, key: KeyInfo) -> list[bytes]:
        """The certificates that the daemon would show, DER, leaf first. Raises AgentError."""
        return list(wiring.chain_in_use(self.pin(role), key, KeptChains(self.settings.state.directory)))

    async def close(self) -> None:
        for session in self._sessions.values():
            if isinstance(session, TokenSession):
                await session.close()


def token_case(settings: Settings, ledger: PinLedger, *, occupied: bool) -> TokenCase:
    """``settings.token`` has to be there."""
    places = wiring.places(settings)
    if settings.data_token is None:
        parts = [Part("", (KeyRole.IDENTITY, KeyRole.DATA), places[KeyRole.IDENTITY])]
    else:
        parts = [Part(f"{role.value} key's token", (role,), place) for role, place in places.items()]
    return TokenCase(settings, ledger, occupied, tuple(parts))


Look = Callable[[TokenCase, Part], Awaitable[Iterable[Finding]]]


def check(id: str, title: str, look: Look) -> Check[TokenCase]:
    """A check of each token by itself."""

    async def all_parts(case: TokenCase) -> list[Finding]:
        return [
            replace(finding, about=", ".join(filter(None, (part.about, finding.about))))
            for part in case.parts
            for finding in await look(case, part)
        ]

    return Check(id, title, all_parts)


def opened_check(
    id: str, title: str, look: Callable[[TokenCase, Part, TokenSession], Awaitable[Iterable[Finding]]]
) -> Check[TokenCase]:
    """A check of what only an opened token shows; ``token-unlocks`` says why it is not open."""

    async def look_inside(case: TokenCase, part: Part) -> Iterable[Finding]:
        if case.occupied:
            return [skipped("a daemon uses it")]
        try:
            session = await case.session(part)
        except TokenError:
            return [skipped("it is not open")]
        return await look(case, part, session)

    return check(id, title, look_inside)
