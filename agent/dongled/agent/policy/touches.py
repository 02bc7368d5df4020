"""Somebody's touch of a FIDO2 key, shown to publishers that want one: the source of that evidence.

What is not known is whether a publisher does: a refusal's reason is coarse. So it is the settings that name
publishers, and a touch is asked for as long as one of them gives no key for some stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.policy.presence import ANY_STREAM
from dongled.agent.protocol.api import Assertion, Evidence, EvidenceWanted
from dongled.tokens.errors import TokenError
from dongled.tokens.fido import presence
from dongled.tokens.fido.keys import Person
from dongled.tokens.fido.registered import Registration

log = logging.getLogger(__name__)

# Below the 18 s within which a request must go (docs/protocol.md, Evidence): without a touch it goes without.
WAIT = 15.0
# After a touch that changed nothing, nobody is asked for another; without a usable key neither.
IN_VAIN = 600.0
NO_KEY = 30.0
# For so long after it was last asked for, a touch counts as wanted.
WANTED = 60.0
_MOST_SESSIONS = 256


@dataclass(slots=True)
class _Publisher:
    """One session of a publisher; times are CLOCK_BOOTTIME."""

    subject: str
    shown: bool = False
    quiet_until: float = float("-inf")
    wanted_until: float = float("-inf")


@dataclass
class Touches:
    """``people`` are those registered for this terminal; ``show_to``: ``urn:uuid:...``, or ``*`` for all.

    ``verified``: the key is to know who touches it.
    """

    people: Sequence[Registration]
    show_to: Collection[str]
    verified: bool
    now: Callable[[], float] = boottime
    wait: float = WAIT
    _publishers: dict[bytes, _Publisher] = field(default_factory=dict)
    # One at a time uses the key, and nobody waits behind one that does not end.
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "touch"))

    def wanted(self) -> list[str]:
        """Subjects of publishers that want a touch now."""
        now = self.now()
        return sorted({each.subject for each in self._publishers.values() if now < each.wanted_until})

    async def gather(self, wanted: EvidenceWanted) -> Evidence:
        """The ``EvidenceSource``. Raises AgentError where no key can be used."""
        if not {wanted.peer.terminal, ANY_STREAM} & set(self.show_to):
            return Evidence()
        publisher = self._publisher(wanted)
        now = self.now()
        if not wanted.missing:
            publisher.shown, publisher.quiet_until, publisher.wanted_until = False, now, now
            return Evidence()
        if publisher.shown:
            # It was not for want of a touch.
            publisher.shown, publisher.quiet_until = False, now + IN_VAIN
        if now < publisher.quiet_until:
            return Evidence()
        publisher.wanted_until = now + WANTED
        try:
            given = await self._touched(wanted.challenge, publisher.subject)
        except TokenError as error:
            publisher.quiet_until = self.now() + NO_KEY
            hint = "take a key with a fingerprint reader" if error.reason == "fido-pin-wanted" else error.hint
            raise AgentError(error.reason, str(error), hint) from None
        if given is None:
            return Evidence()
        publisher.shown, publisher.wanted_until = True, self.now()
        log.info("shown to %s that somebody is here", publisher.subject)
        return Evidence(
            fido=Assertion(given.credential, given.authenticator_data, given.client_data, given.signature)
        )

    def _publisher(self, wanted: EvidenceWanted) -> _Publisher:
        session = wanted.peer.session
        found = self._publishers.setdefault(session, _Publisher(wanted.peer.subject))
        while len(self._publishers) > _MOST_SESSIONS:
            del self._publishers[next(iter(self._publishers))]
        return found

    async def _touched(self, challenge: bytes, subject: str) -> presence.Answer | None:
        """None where nobody touched in time. Raises TokenError."""
        person = Person(lambda: log.warning("touch the FIDO2 key: %s wants somebody present", subject))
        credentials = [each.credential for each in self.people]

        def ask() -> presence.Answer:
            return presence.answer(credentials, challenge, person, verified=self.verified)

        asking = asyncio.get_running_loop().run_in_executor(self._thread, ask)
        try:
            async with asyncio.timeout(self.wait):
                return await asking
        except TimeoutError:
            return None
        except TokenError as error:
            if error.reason == "fido-untouched":
                return None
            raise
        finally:
            # Whether in time, too late, or for nothing since the request is no longer due.
            person.cancelled.set()
