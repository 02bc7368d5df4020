"""Letters: from one terminal to another, so that nobody else can tell to whom, or what for.

Every letter has one size, is signed for no receiver in particular, and is tried by everybody. It is sent
again until the other says that it was taken. docs/protocol.md, Letters.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from dongled.agent.policy.api import PolicyRefused, PolicyUndecided
from dongled.agent.protocol import limits, sealing
from dongled.agent.protocol.again import Again
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.own import OwnEpoch
from dongled.agent.protocol.private_messages import SECRET, Ack, Letter, Opaque
from dongled.agent.protocol.quota import Quota
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote, RemoteEpoch
from dongled.agent.protocol.state import NotForMe, State

Taker = Callable[[str, bytes, Remote, RemoteEpoch, float], None]


@dataclass(slots=True)
class Posted:
    """A letter of mine that was not acknowledged yet.

    ``check`` is asked each time before it is sealed and raises Refusal or PolicyRefused; ``taken`` and
    ``failed`` (with a reason) are told once how it went.
    """

    session: bytes
    kind: str
    content: bytes = field(repr=False)
    check: Callable[[float], None]
    taken: Callable[[float], None]
    failed: Callable[[str, float], None]
    give_up_at: float
    again_at: float
    counters: list[int] = field(default_factory=list)
    message: bytes = b""
    sealed_at: float = float("-inf")
    tries: int = 0


@dataclass(slots=True)
class Seen:
    """A letter that came: ``taken`` is None while it is being opened, and where nothing is to follow."""

    digest: bytes
    taken: bool | None = None
    acked: Again = field(default_factory=lambda: Again(limits.LETTER_REACK))


@dataclass(slots=True)
class Window:
    """The last letters of one epoch of a peer, by counter. What is older than all of them is past.

    ``others``: hashes of the last that were not for me.
    """

    epoch: int
    seen: OrderedDict[int, Seen] = field(default_factory=OrderedDict)
    past: int = 0
    others: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def met(self, digest: bytes) -> bool:
        """Has this letter come before, for me?"""
        return any(seen.digest == digest for seen in self.seen.values())

    def set_aside(self, digest: bytes) -> None:
        """It is another's."""
        self.others[digest] = None
        while len(self.others) > limits.LETTERS_KEPT:
            self.others.popitem(last=False)

    def find(self, counter: int, digest: bytes) -> Seen | None:
        """The same letter as it came before, None for a new one. Raises Refusal."""
        seen = self.seen.get(counter)
        if counter <= self.past or (seen is not None and seen.digest != digest):
            raise Refusal("letter-replayed", f"number {counter} was seen, or is past")
        return seen

    def add(self, counter: int, digest: bytes) -> Seen:
        seen = self.seen[counter] = Seen(digest)
        while len(self.seen) > limits.LETTERS_KEPT:
            lowest = min(self.seen)
            del self.seen[lowest]
            self.past = lowest
        return seen


class Letters:
    """Times are CLOCK_BOOTTIME, seconds. ``take`` is given the kind and the content of each letter to me.

    It raises Refusal or PolicyRefused for what it does not take, which is then not acknowledged.
    """

    def __init__(self, state: State, take: Taker) -> None:
        self._state = state
        self._take = take
        self._counter = 0
        self._posted: list[Posted] = []
        self._windows: dict[bytes, list[Window]] = {}
        self._opening: dict[bytes, int] = {}
        self._quota = Quota(limits.LETTER_BURST, limits.LETTER_RATE)
        self._derives = Quota(limits.LETTER_DERIVES_BURST, limits.LETTER_DERIVES_RATE)

    # --- mine

    def post(
        self,
        session: bytes,
        kind: str,
        content: bytes,
        now: float,
        *,
        within: float,
        check: Callable[[float], None] = lambda now: None,
        taken: Callable[[float], None] = lambda now: None,
        failed: Callable[[str, float], None] = lambda reason, now: None,
    ) -> Posted:
        """Send it until it is acknowledged, for ``within`` seconds at most."""
        posted = Posted(session, kind, content, check, taken, failed, now + within, now)
        self._posted.append(posted)
        return posted

    def withdraw(self, posted: Posted | None) -> None:
        """Send it no more."""
        if posted in self._posted:
            self._posted.remove(posted)

    def removed(self, session: bytes) -> None:
        """This peer is gone."""
        self._posted = [posted for posted in self._posted if posted.session != session]
        self._windows.pop(session, None)
        operation = self._opening.pop(session, None)
        if operation is not None:
            self._state.abandon(operation)

    def forget(self) -> None:
        self._posted.clear()
        self._windows.clear()
        self._opening.clear()

    def next_tick(self) -> float:
        return min((min(p.again_at, p.give_up_at) for p in self._posted), default=float("inf"))

    def tick(self, now: float) -> None:
        # What fails may make another letter due.
        while (
            due := next((p for p in self._posted if now >= min(p.again_at, p.give_up_at)), None)
        ) is not None:
            if now >= due.give_up_at:
                self._posted.remove(due)
                due.failed("silent", now)
            else:
                self._send(due, now)

    def _send(self, posted: Posted, now: float) -> None:
        remote = self._state.remotes.get(posted.session)
        if remote is None:
            self._posted.remove(posted)
            return
        if now - posted.sealed_at >= limits.RETRANSMIT:
            if not _usable(remote, now):
                # Its next beacon brings a nonce to echo.
                posted.again_at = now + limits.RETRY_FIRST
                return
            try:
                if not remote.live(now):
                    raise Refusal("not-live", "it was gone when a letter was to be sealed")
                posted.check(now)
            except PolicyUndecided:
                posted.again_at = now + limits.RETRY_FIRST
                return
            except (Refusal, PolicyRefused) as error:
                self._state.refused(error, remote.source, remote.session)
                self._posted.remove(posted)
                posted.failed("policy", now)
                return
            posted.message = self._seal(remote, posted.kind, posted.content)
            posted.counters.append(self._counter)
            posted.sealed_at, posted.tries = now, 0
        # The same bytes: whichever copy arrives, the token opens one.
        posted.tries += 1
        posted.again_at = now + self._backoff(posted.tries)
        self._state.broadcast("private", posted.message)

    def _seal(self, remote: Remote, kind: str, content: bytes) -> bytes:
        me, epoch = self._state.me, remote.epoch
        ctx = me.context("private", epoch.party)
        self._counter += 1
        body = sealing.seal_to_token(epoch.data, content, ctx) if kind in SECRET else content
        letter = Letter(kind, remote.nonce, self._counter, body)
        sealed = sealing.seal(epoch.sealing, letter.encode(), ctx)
        # Signed without its receiver: else anybody could try the signature on each terminal in turn.
        message, _ = me.sign("private", Opaque(sealed).encode(), me.context("private"))
        return message

    def _backoff(self, tries: int) -> float:
        jitter = int.from_bytes(self._state.random(2)) / 65_536
        return min(limits.RETRY_FIRST * 2.0 ** (tries - 1), limits.RETRY_MOST) * (1 + jitter / 2)

    # --- theirs

    def heard(self, signed: Signed, now: float) -> None:
        """Judge a letter up to the token. Each step prevents one thing:

        1. a letter in another's name or meeting;
        2. one terminal keeping all the others busy with letters that are not theirs; but what somebody plays
           again costs its sender nothing;
        3. opening what is another's, and telling so;
        4. opening a letter twice, and one from earlier in the session;
        5. a letter that was recorded, and one of somebody who is no longer there;
        6. spending the token on what is no point of the curve, or too often for one terminal.

        Raises Refusal.
        """
        opaque = Opaque.parse(signed.payload)
        # 1.
        remote, epoch = self._state.sender(signed.announcement, now)
        digest = signed.verify_eddsa(epoch.signing, epoch.context("private"))
        # 2.
        window = self._window(remote, epoch, now)
        if digest in window.others:
            raise NotForMe
        if not window.met(digest) and not self._quota.take(remote.peer.terminal, now):
            raise Refusal("letter-quota", f"{remote.peer.subject} sends too many letters")
        # 3.
        try:
            own, ctx, plaintext = self._open(epoch, opaque, now)
        except NotForMe:
            window.set_aside(digest)
            raise
        letter = Letter.parse(plaintext)
        # 4.
        seen = window.find(letter.counter, digest)
        if seen is not None and seen.taken is not False:
            return self._acknowledge(remote, letter.counter, seen, now) if seen.taken else None
        # 5.
        issued = self._state.nonces.issued_at(letter.echo, remote.session, now)
        remote.prove_by_message(issued, now)
        remote.shows_that_it_knows_me(now, announced=own is self._state.own)
        seen = seen or window.add(letter.counter, digest)
        if letter.kind not in SECRET:
            return self._taken(seen, letter, letter.body, remote, epoch, now)
        # 6.
        seen.taken = False
        point = sealing.inner_point(letter.body)
        if remote.session in self._opening:
            return None
        if not self._derives.take(remote.peer.terminal, now):
            raise Refusal("letter-quota", f"{remote.peer.subject} keeps the token busy")

        def done(shared: bytes, now: float) -> None:
            del self._opening[remote.session]
            content = sealing.open_inner(letter.body, own.announce.data, shared, ctx)
            self._taken(seen, letter, content, remote, epoch, now)

        def failed(reason: str, now: float) -> None:
            del self._opening[remote.session]
            seen.taken = False

        seen.taken = None
        self._opening[remote.session] = self._state.derive(remote.peer.terminal, point, done, failed)
        return None

    def _window(self, remote: Remote, epoch: RemoteEpoch, now: float) -> Window:
        # One for each epoch, so that a letter forged with a stolen key spoils no number beyond that key.
        windows = [w for w in self._windows.get(remote.session, []) if remote.epoch_numbered(w.epoch, now)]
        self._windows[remote.session] = windows
        for window in windows:
            if window.epoch == epoch.party.epoch:
                return window
        windows.append(Window(epoch.party.epoch))
        return windows[-1]

    def _open(self, epoch: RemoteEpoch, opaque: Opaque, now: float) -> tuple[OwnEpoch, bytes, bytes]:
        for own in self._state.own_epochs(now):
            ctx = epoch.context("private", own.party)
            try:
                return own, ctx, own.sealing.open(opaque.sealed, ctx)
            except Refusal:
                continue
        raise NotForMe

    def _taken(
        self, seen: Seen, letter: Letter, content: bytes, remote: Remote, epoch: RemoteEpoch, now: float
    ) -> None:
        seen.taken = False
        if not remote.live(now):
            raise Refusal("not-live", f"{remote.peer.subject} was gone when its letter was open")
        if letter.kind == "ack":
            self._acknowledged(remote, Ack.parse(content).of, now)
            seen.taken = None
            return
        try:
            self._take(letter.kind, content, remote, epoch, now)
        except PolicyUndecided:
            raise
        except (Refusal, PolicyRefused):
            # For good: played again, it must not cost the token anything.
            seen.taken = None
            raise
        seen.taken = True
        self._acknowledge(remote, letter.counter, seen, now)

    def _acknowledge(self, remote: Remote, counter: int, seen: Seen, now: float) -> None:
        if not _usable(remote, now) or not seen.acked.take(now):
            return
        self._state.broadcast("private", self._seal(remote, "ack", Ack(counter).encode()))

    def _acknowledged(self, remote: Remote, counter: int, now: float) -> None:
        for posted in self._posted:
            if posted.session == remote.session and counter in posted.counters:
                self._posted.remove(posted)
                posted.taken(now)
                return


def digest_of(content: bytes) -> bytes:
    """What an accept names its invite by."""
    return hashlib.sha256(content).digest()


def _usable(remote: Remote, now: float) -> bool:
    return bool(remote.nonce) and now - remote.nonce_at <= limits.ECHO_USABLE
