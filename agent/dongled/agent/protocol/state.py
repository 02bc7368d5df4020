"""What the machine's parts share: who I am, who the others are, and what the daemon is to do."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from dongled.agent.errors import AgentError
from dongled.agent.policy.api import Policy
from dongled.agent.protocol import limits
from dongled.agent.protocol.api import Abandoned, Alarm, Broadcast, DeriveWanted, Effect, Refused, SignWanted
from dongled.agent.protocol.bans import Bans
from dongled.agent.protocol.liveness import Nonces
from dongled.agent.protocol.own import OwnEpoch
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote, RemoteEpoch

Answer = Callable[[bytes, float], None]
Failure = Callable[[str, float], None]


class UnknownSender(Refusal):
    """Its announcement is not here (yet). ``key`` is the announcement's hash, or a session."""

    def __init__(self, key: bytes, detail: str) -> None:
        super().__init__("unknown-sender", detail)
        self.key = key


class NotForMe(Exception):
    """Addressed to another terminal: nothing to say about it."""


@dataclass(slots=True)
class Counters:
    """Messages by type, and refusals by reason."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class State:
    """Shared by the parts of one terminal in one meeting."""

    def __init__(
        self, meeting: str, session: bytes, policy: Policy, random: Callable[[int], bytes], bans: Bans
    ) -> None:
        self.bans = bans
        self.meeting = meeting
        self.session = session
        self.policy = policy
        self.random = random
        self.nonces = Nonces(random)
        self.remotes: dict[bytes, Remote] = {}
        self._ended: OrderedDict[bytes, str] = OrderedDict()
        self._turned_away: OrderedDict[bytes, str] = OrderedDict()
        self.counters = Counters()
        self.effects: list[Effect] = []
        self._own: list[tuple[OwnEpoch, float]] = []
        self.adopted_at = float("-inf")
        self._first_seen: OrderedDict[bytes, float] = OrderedDict()
        self._operations: dict[int, tuple[Answer, Failure]] = {}
        self._operation = 0
        self._kid = 0

    # --- my epochs

    @property
    def own(self) -> OwnEpoch | None:
        """The epoch that the token has certified last."""
        return self._own[-1][0] if self._own else None

    @property
    def me(self) -> OwnEpoch:
        assert self._own, "nothing is sent before the token has signed the announcement"
        return self._own[-1][0]

    def adopt(self, epoch: OwnEpoch, now: float) -> None:
        """Use ``epoch`` from now on; the one before it still opens what is under way, for 10 s."""
        self.adopted_at = now
        for remote in self.remotes.values():
            remote.knows_me = False
        self._own = [*((old, now + limits.GRACE) for old, _ in self._own[-1:]), (epoch, float("inf"))]

    def forget_old_epochs(self, now: float) -> None:
        self._own = [(epoch, until) for epoch, until in self._own if now < until]

    def next_forgetting(self) -> float:
        """When an epoch's private keys are due to go."""
        return min((until for _, until in self._own), default=float("inf"))

    def forget_own(self) -> None:
        self._own.clear()
        self._operations.clear()

    def addressed(self, to: bytes, now: float) -> OwnEpoch:
        """The epoch of mine whose announcement's hash is ``to``. Raises NotForMe."""
        for epoch, until in self._own:
            if epoch.digest == to and now < until:
                return epoch
        raise NotForMe

    def own_epochs(self, now: float) -> list[OwnEpoch]:
        """My epochs to which something under way may be sealed, the newest first."""
        return [epoch for epoch, until in reversed(self._own) if now < until]

    def next_kid(self) -> int:
        """The next generation's number, over all streams of this session."""
        self._kid += 1
        return self._kid

    def sender(self, announcement: bytes, now: float) -> tuple[Remote, RemoteEpoch]:
        """Whose announcement has this hash. Raises Refusal."""
        if any(epoch.digest == announcement for epoch, _ in self._own):
            raise Refusal("reflected", "a message of my own came back")
        for remote in self.remotes.values():
            epoch = remote.epoch_of(announcement, now)
            if epoch is not None:
                return remote, epoch
        self.check_known_bad(announcement)
        raise UnknownSender(announcement, "signed under an announcement that is not here")

    # --- sessions that are over

    def end(self, remote: Remote, reason: str) -> None:
        """This session is over for good: nothing brings it back."""
        for key in (remote.session, remote.epoch.party.announcement):
            self._ended[key] = reason
        while len(self._ended) > limits.TOMBSTONES:
            self._ended.popitem(last=False)

    def turn_away(self, session: bytes, announcement: bytes, reason: str) -> None:
        """The policy refused this announcement: what follows under it is neither kept nor asked about."""
        for key in (session, announcement):
            self._turned_away[key] = reason
        while len(self._turned_away) > limits.TOMBSTONES:
            self._turned_away.popitem(last=False)

    def first_sight(self, session: bytes, now: float) -> float:
        """When this session was first admitted here, however often it was dropped since."""
        at = self._first_seen.setdefault(session, now)
        while len(self._first_seen) > limits.TOMBSTONES:
            self._first_seen.popitem(last=False)
        return at

    def check_ended(self, session: bytes) -> None:
        """Raises Refusal for a session that is over."""
        if session in self._ended:
            raise Refusal("session-ended", f"it has ended: {self._ended[session]}")

    def check_known_bad(self, key: bytes) -> None:
        """``key`` is a session or an announcement's hash. Raises Refusal."""
        self.check_ended(key)
        if key in self._turned_away:
            raise Refusal("announcement-refused", self._turned_away[key])

    # --- effects

    def broadcast(self, kind: str, message: bytes) -> None:
        self.counters.sent[kind] += 1
        self.effects.append(Broadcast(message))

    def refused(self, error: Refusal | AgentError, source: str, session: bytes | None = None) -> None:
        self.counters.refused[error.reason] += 1
        detail = error.detail if isinstance(error, Refusal) else str(error)
        self.effects.append(Refused(error.reason, detail, source, session))

    def alarm(self, reason: str, detail: str) -> None:
        self.effects.append(Alarm(reason, detail))

    # --- the token

    def sign(self, kind: str, digest: bytes, done: Answer, failed: Failure) -> int:
        """For a message of this type."""
        operation = self._begin(done, failed)
        self.effects.append(SignWanted(operation, digest, kind))
        return operation

    def derive(self, terminal: str, point: bytes, done: Answer, failed: Failure) -> int:
        """For what this terminal has sent."""
        operation = self._begin(done, failed)
        self.effects.append(DeriveWanted(operation, point, terminal))
        return operation

    def answered(self, operation: int, result: bytes, now: float) -> None:
        """The token's result; an operation that nobody waits for any more is ignored."""
        if operation in self._operations:
            self._operations.pop(operation)[0](result, now)

    def token_failed(self, operation: int, reason: str, now: float) -> None:
        if operation in self._operations:
            self._operations.pop(operation)[1](reason, now)

    def abandon(self, operation: int) -> None:
        if self._operations.pop(operation, None) is not None:
            self.effects.append(Abandoned(operation))

    def operation(self) -> int:
        """A number for something that the daemon is asked to do."""
        self._operation += 1
        return self._operation

    def _begin(self, done: Answer, failed: Failure) -> int:
        operation = self.operation()
        self._operations[operation] = (done, failed)
        return operation
