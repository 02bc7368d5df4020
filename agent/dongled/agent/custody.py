"""The terminal's token over time: waited for, opened, lost, and opened again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from dongled.agent.errors import AgentError
from dongled.agent.logs.events import Event, about
from dongled.agent.terminal import Terminal
from dongled.config.api import ConfigError
from dongled.tokens.api import KeyRole
from dongled.tokens.errors import TokenError
from dongled.tokens.opened import OpenedToken, SplitTokenError
from dongled.tokens.quirks import Watch
from dongled.tokens.readers import Readers
from dongled.tokens.session import TokenSession
from dongled.tokens.state import PASSING, TokenState, state_after

log = logging.getLogger(__name__)

# A token that is not ready is tried again when a card comes or goes, and ever later besides; seconds.
RETRY_FIRST = 1.0
RETRY_MOST = 10.0
# Where nothing tells of a removal, the module is asked as often; seconds.
ASK_EVERY = 1.0

# What the daemon does not start with: somebody has to change the configuration, or the token's keys.
_HOPELESS = frozenset({"pin-wrong", "module-missing", "module-unusable", "token-ambiguous"})

_READY = (TokenState.READY, "")


def _told(error: TokenError | AgentError) -> str:
    return f"{error} [{error.reason}]"


def _hopeless(error: TokenError | AgentError, awaited: Collection[str]) -> bool:
    return (
        (isinstance(error, AgentError) and error.reason not in awaited)
        or error.reason in _HOPELESS
        or error.reason.startswith(("uri-", "key-"))
    )


def _of_a_file(error: ConfigError) -> AgentError:
    """What the settings name may be there again: a daemon that runs does not end with it."""
    return AgentError(error.reason, str(error), error.hint)


class Custody:
    """``open_keys`` logs in, and ``make_terminal`` reads the certificates of what was opened.

    Each opening makes a new ``Terminal``, whose ``lost`` ends it. ``awaited`` are reasons of
    ``make_terminal`` that pass by themselves. ``parts``: state and why of each token, where there are two.
    """

    def __init__(
        self,
        open_keys: Callable[[], Awaitable[OpenedToken]],
        make_terminal: Callable[[OpenedToken], Terminal],
        readers: Readers | None = None,
        awaited: Collection[str] = (),
    ) -> None:
        self._open_keys = open_keys
        self._make_terminal = make_terminal
        self._readers = readers or Readers()
        self._awaited = awaited
        self._keys: OpenedToken | None = None
        self._terminal: Terminal | None = None
        self._ready = asyncio.Event()
        # An operator and the regular retry may come together.
        self._opening = asyncio.Lock()
        self.urn = ""
        self.state = TokenState.ABSENT
        self.why = ""
        self.parts: Mapping[KeyRole, tuple[TokenState, str]] = {}

    @property
    def keys(self) -> OpenedToken | None:
        """The opened token; None unless READY."""
        return self._keys

    @property
    def terminal(self) -> Terminal | None:
        """None unless READY."""
        return self._terminal

    async def ready(self) -> None:
        """Wait until the token is READY."""
        while self._terminal is None:
            await self._ready.wait()

    async def start(self) -> None:
        """Open the token, or find out why not.

        Raises TokenError, AgentError and ConfigError where waiting is no use.
        """
        try:
            await self._open()
        except (TokenError, AgentError) as error:
            if _hopeless(error, self._awaited):
                raise
            self._not_ready(error)

    def hold(self, error: TokenError) -> None:
        """Do not try at the start: ``run`` does, when everything else is up."""
        self._not_ready(error)

    async def unlock(self, hand_over: Callable[[], None]) -> None:
        """Try now, with what an operator hands over. Raises TokenError and AgentError."""
        # In its turn: a retry in between would try it, and leave the operator with a PIN refused before.
        async with self._opening:
            if self._terminal is not None:
                return
            hand_over()
            try:
                await self._open_once()
            except (TokenError, AgentError) as error:
                self._not_ready(error)
                raise
            except ConfigError as error:
                self._not_ready(_of_a_file(error))
                raise _of_a_file(error) from None

    def read_again(self) -> None:
        """New sessions announce the certificates of now. Raises AgentError."""
        if self._terminal is not None and self._keys is not None:
            now = self._make_terminal(self._keys)
            # Lost is lost for both.
            self._terminal = replace(now, lost=self._terminal.lost)

    async def run(self) -> None:
        """Keep it open until cancelled."""
        while True:
            if self._terminal is None:
                await self._wait_for_token()
            if self._terminal is not None and self._keys is not None:
                await self._until_lost(self._terminal, self._keys)

    async def close(self) -> None:
        await self._readers.close()
        if self._keys is not None:
            await self._keys.close()

    async def _open(self) -> None:
        async with self._opening:
            if self._terminal is None:
                await self._open_once()

    async def _open_once(self) -> None:
        keys = await self._open_keys()
        self.parts = dict.fromkeys(keys.parts, _READY) if len(keys.parts) > 1 else {}
        try:
            terminal = self._make_terminal(keys)
        except BaseException:
            await keys.close()
            raise
        self._keys, self._terminal, self.urn = keys, terminal, terminal.urn
        self.state, self.why = TokenState.READY, ""
        # Registered before any session's: whoever ends with this token finds it gone already.
        terminal.lost.add_done_callback(self._lost)
        self._ready.set()

    def _lost(self, lost: asyncio.Future[TokenError]) -> None:
        self._ready.clear()
        self._keys = self._terminal = None
        self._not_ready(lost.result())

    async def _wait_for_token(self) -> None:
        await self._readers.start()
        pause = RETRY_FIRST
        change = asyncio.create_task(self._readers.change())
        try:
            while self._terminal is None:
                await self._something_happens(change, pause)
                if change.done():
                    # Before the next try: a card that comes in the middle of it was not looked for.
                    change = asyncio.create_task(self._readers.change())
                try:
                    await self._open()
                except (TokenError, AgentError) as error:
                    self._not_ready(error)
                except ConfigError as error:
                    self._not_ready(_of_a_file(error))
                else:
                    uri = self._keys.uri if self._keys else ""
                    log.info("the token is ready: %s", uri, extra=about(Event.TOKEN_READY))
                pause = min(RETRY_MOST, 2 * pause)
        finally:
            change.cancel()

    async def _something_happens(self, change: asyncio.Task[object], pause: float) -> None:
        """A card came or went, somebody unlocked the token, or ``pause`` seconds are over."""
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({change, ready}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()

    def _not_ready(self, error: TokenError | AgentError) -> None:
        if isinstance(error, TokenError):
            error = self._seen_outside(error)
        why = _told(error)
        if why != self.why:
            fields = about(Event.TOKEN_NOT_READY, reason=error.reason)
            log.warning("no token: %s; %s", why, error.hint, extra=fields)
        if isinstance(error, SplitTokenError):
            failed = {role: (state_after(each), _told(each)) for role, each in error.failed.items()}
            self.parts = {KeyRole.IDENTITY: _READY, KeyRole.DATA: _READY, **failed}
        self.state = state_after(error) if isinstance(error, TokenError) else TokenState.FAULT
        self.why = why

    def _seen_outside(self, error: TokenError) -> TokenError:
        """A module does not see a card that another program holds, and takes it for absent."""
        if isinstance(error, SplitTokenError):
            return SplitTokenError({role: self._seen_outside(each) for role, each in error.failed.items()})
        if error.reason != "token-absent" or not self._readers.held:
            return error
        held = ", ".join(sorted(self._readers.held))
        return TokenError("token-busy", f"another program has the card in {held} for itself", "close it")

    async def _until_lost(self, terminal: Terminal, keys: OpenedToken) -> None:
        watching = asyncio.create_task(self._watch(keys))
        try:
            await asyncio.wait({terminal.lost, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                terminal.lose(watching.result())
        finally:
            watching.cancel()
            await keys.close()

    async def _watch(self, keys: OpenedToken) -> TokenError:
        """Returns when one of the tokens is no longer there."""
        watching = {asyncio.create_task(self._watch_part(part)): role for role, part in keys.parts.items()}
        try:
            done, _ = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            first = done.pop()
            return keys.lost(watching[first], first.result())
        finally:
            for task in watching:
                task.cancel()

    async def _watch_part(self, part: TokenSession) -> TokenError:
        if part.watch is Watch.READER:
            await self._readers.start()
            if (reader := self._readers.holding(part.slot)) is not None:
                inserted = self._readers.cards[reader]
                while self._readers.cards.get(reader) == inserted:
                    await self._readers.change()
                return TokenError("token-absent", "the token was removed", "insert it again")
        while part.watch is not Watch.NOTHING:
            await asyncio.sleep(ASK_EVERY)
            try:
                await part.check_there()
            except TokenError as error:
                if error.reason not in PASSING:
                    return error
        never: asyncio.Future[TokenError] = asyncio.get_running_loop().create_future()
        return await never
