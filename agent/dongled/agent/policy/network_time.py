"""Have chrony vouch for the clock, again and again, while NTS authenticates its servers.

Whether it does only root and chrony's own user may ask, who may also set the clock. So the daemon neither
asks chronyd nor runs anything: for each connection to dongled-time.socket systemd runs one fixed question as
that user, and what is printed comes back.

A word counts for an hour from the last authenticated measurement: long enough for a network that is away or a
chronyd that is upgraded, short enough for a clock that somebody slews, up to a twelfth of the time, which the
clock that never jumps goes along with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

from dongled.agent.policy.api import PolicyRefused
from dongled.agent.policy.chrony import malformed, measured, unavailable
from dongled.agent.policy.clock import TrustedClock, system_wall_clock

log = logging.getLogger(__name__)

SOCKET = Path("/run/dongled-time.sock")

LASTS = 3600.0  # seconds from the measurement
EVERY = 60.0  # seconds
EVERY_UNTRUSTED = 10.0
PATIENCE = 5.0
MAX_ANSWER = 32_768  # bytes


async def ask(path: Path = SOCKET, patience: float = PATIENCE) -> str:
    """What chronyc prints. Raises PolicyRefused ``time-nts-unavailable``, ``time-nts-malformed``."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                data = await _everything(reader)
            finally:
                writer.close()
        return data.decode("ascii")
    except TimeoutError:
        raise unavailable(f"no answer within {patience:g} s") from None
    except OSError as error:
        raise unavailable(f"{path}: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise malformed() from None


async def _everything(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while part := await reader.read(MAX_ANSWER):
        data += part
        if len(data) > MAX_ANSWER:
            raise malformed()
    return data


class NetworkTime:
    """Asks chrony for ``clock``, whose wall clock is ``wall``."""

    def __init__(
        self,
        clock: TrustedClock,
        *,
        ask: Callable[[], Awaitable[str]] = ask,
        wall: Callable[[], datetime] = system_wall_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._wall = wall
        self._sleep = sleep
        self._learned: Callable[[], None] = lambda: None
        self._trusted = False
        self._logged = ""

    def on_learned(self, learned: Callable[[], None]) -> None:
        """Call ``learned`` when the time becomes trusted, or is no longer."""
        self._learned = learned

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._sleep(EVERY if self._trusted else EVERY_UNTRUSTED)

    async def look(self) -> None:
        """Ask once. What chrony denies is logged, and ``clock`` knows it.

        That a clock is wrong counts at once; that chrony knows nothing, or nothing authenticated, when its
        last word has run out.
        """
        try:
            said = measured(await self._ask())
            now = self._wall() + timedelta(seconds=said.behind)
            if said.age >= LASTS:
                raise PolicyRefused(
                    "time-nts-old",
                    f"chrony heard of an authenticated server {said.age} s ago",
                    "see that its servers can be reached: chronyc -n sources",
                )
            self._clock.confirm(now, lasts=LASTS - said.age)
        except PolicyRefused as refused:
            self._clock.doubt(refused, withdrawn=refused.reason == "time-differs")
            if refused.reason != self._logged:
                log.warning("%s [%s]; %s", refused, refused.reason, refused.hint)
            self._logged = refused.reason
        else:
            if self._logged:
                log.info("chrony vouches for the time")
            self._logged = ""
        self._tell()

    def _tell(self) -> None:
        trusted = self._clock.refusal() is None
        if trusted != self._trusted:
            self._trusted = trusted
            self._learned()
