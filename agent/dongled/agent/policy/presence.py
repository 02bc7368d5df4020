"""Did somebody who is known touch a FIDO2 key at the terminal that asks?

A touch counts for the session with whose request it was shown, and for a time: a round asks for keys every
four minutes, and nobody touches a key that often. Who it was of which session is kept in memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dongled.agent.clock import boottime
from dongled.agent.errors import AgentError
from dongled.agent.policy.api import CheckedCertificate, PolicyRefused, Presented
from dongled.agent.protocol.api import Assertion
from dongled.tokens.errors import TokenError
from dongled.tokens.fido.presence import Answer, verify
from dongled.tokens.fido.registered import Registration, require_distinct

ANY_STREAM = "*"
# Sessions, of all meetings; each took somebody's touch.
MOST_SESSIONS = 1024
_HINT = "somebody has to touch a registered FIDO2 key there ([presence] in docs/authorization.md)"


@dataclass(frozen=True, slots=True)
class _Seen:
    """Who touched which key, for which challenge, and until when (CLOCK_BOOTTIME) that counts."""

    name: str
    credential: bytes
    verified: bool
    challenge: bytes
    until: float


class Presence:
    """The ``EvidenceCheck`` of touches: of the streams in ``streams``, or of all where ``*`` is among them.

    ``verified``: the key has to have known who touched it. ``lasts`` is in seconds. Raises AgentError
    ``presence-doubled``.
    """

    def __init__(
        self,
        people: Sequence[Registration],
        streams: Collection[str],
        *,
        verified: bool,
        lasts: float,
        now: Callable[[], float] = boottime,
    ) -> None:
        self._people = by_credential(people)
        self._streams = frozenset(streams)
        self._verified = verified
        self._lasts = lasts
        self._now = now
        self._counts = {each.credential: each.count for each in people}
        self._seen: dict[tuple[str, bytes], _Seen] = {}

    def change(self, people: Sequence[Registration]) -> None:
        """It is these whose touch counts from now on. Raises what the making of it does."""
        self._people = by_credential(people)
        for each in people:
            self._counts.setdefault(each.credential, each.count)
        self._seen = {
            (terminal, session): seen
            for (terminal, session), seen in self._seen.items()
            if seen.credential in self._people and self._people[seen.credential].terminal == terminal
        }

    def check(self, identity: CheckedCertificate, presented: Presented, stream: str) -> Sequence[str]:
        """Who touched. Where none is required, none is looked at. Raises PolicyRefused."""
        if not self._streams & {stream, ANY_STREAM}:
            return ()
        key, shown = (identity.terminal, presented.session), presented.evidence.fido
        seen = self._seen.get(key)
        # The same request is judged again and again.
        if shown is not None and (seen is None or seen.challenge != presented.challenge):
            seen = self._verify(identity.terminal, shown, presented.challenge)
            self._seen.pop(key, None)
            self._seen[key] = seen
            while len(self._seen) > MOST_SESSIONS:
                del self._seen[next(iter(self._seen))]
        if seen is None:
            raise PolicyRefused(
                "presence-missing",
                f"{identity.terminal} shows nobody's touch, which {stream} requires",
                _HINT,
            )
        if self._now() >= seen.until:
            raise PolicyRefused(
                "presence-lapsed", f"{seen.name} touched the key of {identity.terminal} too long ago", _HINT
            )
        return [f"{seen.name} touched a FIDO2 key{', which knew who it was' if seen.verified else ''}"]

    def _verify(self, terminal: str, shown: Assertion, challenge: bytes) -> _Seen:
        """Each step prevents one thing:

        1. anybody's touch;
        2. the touch of somebody who is known, elsewhere;
        3. what no registered key said, to this challenge, when touched;
        4. whoever found the key touching it;
        5. a copy of the key.
        """
        # 1.
        person = self._people.get(shown.credential)
        if person is None:
            raise PolicyRefused(
                "presence-unregistered", f"{terminal} shows the touch of a key that is not registered", _HINT
            )
        # 2.
        if person.terminal != terminal:
            raise PolicyRefused(
                "presence-other-terminal", f"{terminal} shows {person.name}'s, of another terminal", _HINT
            )
        # 3.
        answer = Answer(shown.credential, shown.authenticator_data, shown.client_data, shown.signature)
        try:
            touch = verify(person.public_key, challenge, answer)
        except TokenError as error:
            raise PolicyRefused(error.reason, f"{person.name} at {terminal}: {error}", error.hint) from None
        # 4.
        if self._verified and not touch.verified:
            raise PolicyRefused(
                "presence-unverified", f"{person.name}'s key does not say who touched it", "by PIN or finger"
            )
        # 5. (Web Authentication, 7.2, step 22)
        before = self._counts[shown.credential]
        if (touch.count or before) and touch.count <= before:
            raise PolicyRefused(
                "presence-counter",
                f"{person.name}'s key counts {touch.count} after {before}: it was copied, or it is a replay",
                "do not trust that key any more, unless it was reset",
            )
        self._counts[shown.credential] = touch.count
        return _Seen(person.name, shown.credential, touch.verified, challenge, self._now() + self._lasts)


def by_credential(people: Sequence[Registration]) -> dict[bytes, Registration]:
    """Raises AgentError ``presence-doubled``."""
    try:
        require_distinct(people)
    except ValueError:
        raise AgentError(
            "presence-doubled",
            "a FIDO2 credential is registered twice, or there are too many",
            "name each file once in presence.credentials",
        ) from None
    return {each.credential: each for each in people}
