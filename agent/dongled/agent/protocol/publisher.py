"""The owner of my streams' keys: who may read, from which generation on, and the proof that they may.

One object serialises grants and rekeys under ``key_seq``. Whoever may read changes, everything changes:
all streams get fresh random base keys, the rest get them over their links, newcomers by a grant, and the
switch follows. docs/protocol.md, Publishing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dongled.agent.policy.api import PolicyRefused, PolicyUndecided, Presented
from dongled.agent.protocol import evidence, limits, sealing
from dongled.agent.protocol.again import Again
from dongled.agent.protocol.api import Judged, SealWith, StopSealing, Stream
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.held import Asking, HeldRequests
from dongled.agent.protocol.holders import Allowed, CachedRekey, Holder
from dongled.agent.protocol.links import Link, wrap
from dongled.agent.protocol.messages import (
    Grant,
    GrantedKey,
    Keys,
    NewKey,
    Position,
    Refuse,
    Rekey,
    Request,
    Sealed,
    Wrapped,
)
from dongled.agent.protocol.quota import Quota
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote, RemoteEpoch, authorise
from dongled.agent.protocol.roster import roster_hash
from dongled.agent.protocol.state import State
from dongled.media.keyring import commit_base_key


class Publisher:
    """Times are CLOCK_BOOTTIME, seconds."""

    def __init__(self, state: State, streams: Iterable[Stream], suite: int) -> None:
        self._state = state
        self._streams = tuple(stream.id for stream in streams)
        self._suite = suite
        self.key_seq = 0
        self.holders: dict[bytes, Holder] = {}
        self._asking: dict[bytes, Asking] = {}
        self._held = HeldRequests()
        self._withheld: dict[bytes, frozenset[str]] = {}
        self._quota = Quota(limits.REQUEST_BURST, limits.REQUEST_RATE)
        self._keys: dict[str, GrantedKey] = {}
        self._positions: dict[str, Position] = {}
        self._signing: Ed25519PrivateKey | None = None
        self._rekeys: deque[CachedRekey] = deque(maxlen=limits.REKEYS_KEPT)
        self._rotated_at = float("-inf")
        self._rotate_at: float | None = None
        self._switch_at: float | None = None

    # --- what the daemon and the other parts say

    def start(self, now: float) -> None:
        """Have a generation for the beacons to name, so that whoever may watch sees what is missing."""
        if self._streams:
            self._fresh_generation()
            self._switch()

    def renew(self, now: float) -> None:
        """End of a round: a fresh generation, and nothing of it over a link from before the round."""
        if not self._streams:
            return
        current = self._state.me.digest
        for session in [s for s, holder in self.holders.items() if holder.announcement != current]:
            del self.holders[session]
        self._schedule(now)

    def positions(self) -> tuple[Position, ...]:
        """Where my streams are, for the beacon."""
        return tuple(self._positions.values())

    def sealed(self, stream: str, kid: int, ctr: int) -> None:
        """The media has sealed up to this counter."""
        at = self._positions.get(stream)
        if at is not None and at.kid == kid and ctr > at.ctr:
            self._positions[stream] = Position(stream, kid, ctr, at.commit)

    def generation(self, stream: str) -> int | None:
        at = self._positions.get(stream)
        return at.kid if at else None

    def presented(self, session: bytes) -> Presented | None:
        """What this terminal showed with its latest request for keys."""
        asked = self._asking.get(session) or self.holders.get(session)
        return asked.presented if asked else None

    def removed(self, session: bytes, now: float) -> None:
        """A terminal left: what it holds must open nothing for longer than it takes to tell the others."""
        self._asking.pop(session, None)
        self._held.drop(session)
        self._withheld.pop(session, None)
        if self.holders.pop(session, None) is not None:
            self._schedule(now)

    def next_tick(self) -> float:
        times = [at for at in (self._rotate_at, self._switch_at) if at is not None]
        return min([*times, self._held.next_tick()])

    def tick(self, now: float) -> None:
        if self._switch_at is not None and now >= self._switch_at:
            self._say_again(now)
            self._switch()
        if self._rotate_at is not None and now >= self._rotate_at:
            self._rotate(now)
        if now >= self._held.next_tick():
            self._judge_held(now)

    def forget(self) -> None:
        """Drop every key."""
        self.holders.clear()
        self._asking.clear()
        self._held.clear()
        self._withheld.clear()
        self._keys.clear()
        self._positions.clear()
        self._rekeys.clear()
        self._signing = None
        self._rotate_at = self._switch_at = None

    # --- requests

    def request(self, signed: Signed, now: float) -> None:
        """Judge a request. Each step prevents one thing:

        1. answering what another terminal was asked;
        2. a request in another's name, for another meeting, epoch or receiver;
        3. work done twice for one request, and a request from earlier in the session;
        4. an echo that was recorded, and a grant to somebody who is no longer there;
        5. one terminal making me say more than the others take from one source;
        6. asking for what is not published;
        7. a key for somebody whom the policy, asked now and shown the evidence, does not allow. What it
           cannot tell yet is kept and asked again.

        Raises Refusal or PolicyRefused.
        """
        # 1.
        outer = Sealed.parse("request", signed.payload)
        own = self._state.addressed(outer.to, now)
        # 2.
        remote, epoch = self._state.sender(signed.announcement, now)
        ctx = epoch.context("request", own.party)
        digest = signed.verify_eddsa(epoch.signing, ctx)
        # 3.
        holder = self.holders.get(remote.session)
        if holder is not None and holder.request == digest:
            return self._answer_again(remote, holder, now)
        asking = self._asking.get(remote.session)
        if asking is not None and asking.request == digest:
            return None
        held = self._held.get(remote.session)
        if held is not None and held.request == digest:
            return self._say_pending(held, now)
        inner = Request.parse(own.sealing.open(outer.sealed, ctx))
        last = remote.requests.get(epoch.party.epoch, 0)
        if inner.counter <= last:
            raise Refusal("request-replayed", f"number {inner.counter}, {last} was seen")
        # 4.
        issued = self._state.nonces.issued_at(inner.echo, remote.session, now)
        remote.prove_by_message(issued, now)
        # 5.
        if not self._quota.take(remote.peer.terminal, now):
            raise Refusal("request-quota", f"{remote.peer.subject} asks too often")
        remote.requests[epoch.party.epoch] = inner.counter
        remote.shows_that_it_knows_me(now, announced=own is self._state.own)
        remote.has_nonce = True
        # 6.
        wanted = frozenset(inner.streams) & frozenset(self._streams)
        if not wanted:
            self._refuse(epoch, inner.nonce, digest, "unknown-stream")
            raise Refusal("unknown-stream", ", ".join(inner.streams)[:100])
        # 7.
        challenge = evidence.challenge(ctx, inner.echo)
        shown = inner.evidence
        streams = tuple(sorted(wanted))
        presented = Presented(self._state.meeting, remote.session, epoch.data, streams, shown, challenge)
        self._staple(remote, epoch, shown.ocsp)
        ask = Asking(wanted, epoch, presented, digest, inner.nonce, inner.key_seq)
        try:
            allowed = self._allowed(remote, epoch, wanted, presented)
        except PolicyUndecided as error:
            return self._hold(remote, ask, error, now)
        except (Refusal, PolicyRefused) as error:
            self._turn_down(remote, ask, error)
            return None
        self._held.drop(remote.session)
        self._say_what_is_withheld(remote, allowed)
        return self._let_in(remote, ask, allowed, now)

    def _let_in(self, remote: Remote, ask: Asking, allowed: Allowed, now: float) -> None:
        """Who is to hold other streams gets the next generation; who lacks a link or rekeys gets those."""
        holder = self.holders.get(remote.session)
        if holder is None or allowed.streams != holder.streams:
            if holder is not None:
                # Its key of a stream that it no longer asks for, or may not have, has to end as well.
                holder.streams &= allowed.streams
                if not holder.streams:
                    del self.holders[remote.session]
            self._asking[remote.session] = ask
            return self._schedule(now)
        old_link = holder.announcement != self._state.me.digest
        lacks_rekeys = holder.key_seq <= ask.key_seq < self.key_seq
        if not old_link and lacks_rekeys and self._resend(ask.key_seq, now):
            return None
        return self._grant(remote, ask, allowed, now)

    def _hold(self, remote: Remote, ask: Asking, error: PolicyUndecided, now: float) -> None:
        waited = self._held.get(remote.session) is not None
        if not self._held.hold(remote.session, ask, now):
            # Told, not raised: whoever admits one among others goes on with the others, and with the switch.
            self._refuse(ask.epoch, ask.nonce, ask.request, "full")
            full = Refusal("requests-full", f"{limits.HELD_REQUESTS} requests await a verdict")
            return self._state.refused(full, remote.source, remote.session)
        self._say_pending(ask, now)
        if not waited:
            self._judged("held", remote, ask.streams, error)
        return None

    def _say_pending(self, ask: Asking, now: float) -> None:
        if ask.told.take(now):
            self._refuse(ask.epoch, ask.nonce, ask.request, "pending")

    def _turn_down(self, remote: Remote, ask: Asking, error: Refusal | PolicyRefused) -> None:
        self._held.drop(remote.session)
        self._refuse(ask.epoch, ask.nonce, ask.request, "policy")
        self._judged("refused", remote, ask.streams, error)

    def _say_what_is_withheld(self, remote: Remote, allowed: Allowed) -> None:
        # Who lacks a stream asks at each beacon: the same is not told every seven seconds.
        reasons = frozenset(error.reason for error in allowed.refused)
        if reasons != self._withheld.get(remote.session):
            for reason in sorted(reasons):
                error = next(error for error in allowed.refused if error.reason == reason)
                self._state.refused(error, remote.source, remote.session)
        self._withheld[remote.session] = reasons

    def _judged(
        self, verdict: str, remote: Remote, streams: Iterable[str], error: Refusal | PolicyRefused
    ) -> None:
        self._state.refused(error, remote.source, remote.session)
        detail = error.detail if isinstance(error, Refusal) else str(error)
        judged = Judged(verdict, remote.peer, tuple(sorted(streams)), error.reason, detail)
        self._state.effects.append(judged)

    def _judge_held(self, now: float) -> None:
        for session, ask in self._held.current(now):
            remote = self._state.remotes.get(session)
            announcement = ask.epoch.party.announcement
            if remote is None or not remote.live(now) or remote.epoch_of(announcement, now) is None:
                self._held.drop(session)
                continue
            try:
                allowed = self._allowed(remote, ask.epoch, ask.streams, ask.presented)
            except PolicyUndecided:
                continue
            except (Refusal, PolicyRefused) as error:
                self._turn_down(remote, ask, error)
            else:
                self._held.drop(session)
                self._let_in(remote, ask, allowed, now)

    def _staple(self, remote: Remote, epoch: RemoteEpoch, answers: Sequence[bytes]) -> None:
        # What does not hold is as good as nothing: the policy decides by what it knows.
        try:
            self._state.policy.staple([remote.chain, epoch.announce.data_chain], answers)
        except PolicyRefused as error:
            self._state.refused(error, remote.source, remote.session)

    def _allowed(
        self, remote: Remote, epoch: RemoteEpoch, wanted: frozenset[str], presented: Presented
    ) -> Allowed:
        identity = authorise(self._state.policy, remote.chain, epoch.announce, remote.peer.leaf)
        allowed: dict[str, str] = {}
        errors: list[PolicyRefused] = []
        for stream in sorted(wanted):
            try:
                allowed[stream] = self._state.policy.may_view(identity, stream, presented)
            except PolicyRefused as error:
                errors.append(error)
        if not allowed:
            raise next((error for error in errors if isinstance(error, PolicyUndecided)), errors[-1])
        return Allowed(frozenset(allowed), "; ".join(sorted(set(allowed.values()))), tuple(errors))

    def _answer_again(self, remote: Remote, holder: Holder, now: float) -> None:
        # The grant or a rekey was lost: the same bytes again, so that both ends keep one link.
        if holder.answered.take(now):
            self._state.broadcast("grant", holder.grant)
            self._resend(holder.key_seq, now)

    def _say_again(self, now: float) -> None:
        # Whoever missed it would see nothing until the next beacon, in seven seconds.
        rekey = self._rekeys[-1]
        if rekey.key_seq == self.key_seq:
            rekey.sent_at = now
            self._state.broadcast("rekey", rekey.message)

    def _resend(self, held: int, now: float) -> bool:
        """Send the rekeys after ``held`` again; False when they are no longer all here."""
        missing = [rekey for rekey in self._rekeys if rekey.key_seq > held]
        if len(missing) < self.key_seq - held:
            return False
        for rekey in missing:
            if now - rekey.sent_at >= limits.ANSWER_AGAIN:
                rekey.sent_at = now
                self._state.broadcast("rekey", rekey.message)
        return True

    def _refuse(self, epoch: RemoteEpoch, nonce: bytes, request: bytes, reason: str) -> None:
        me = self._state.me
        ctx = me.context("refuse", epoch.party, request)
        sealed = sealing.seal(epoch.sealing, Refuse(nonce, reason).encode(), ctx)
        message, _ = me.sign("refuse", Sealed(epoch.party.announcement, sealed).encode(), ctx)
        self._state.broadcast("refuse", message)

    # --- generations

    def _schedule(self, now: float) -> None:
        # The first change goes at once, those within 500 ms of it together.
        at = max(now, self._rotated_at + limits.BATCH)
        self._rotate_at = at if self._rotate_at is None else min(self._rotate_at, at)
        if now >= self._rotate_at:
            self._rotate(now)

    def _rotate(self, now: float) -> None:
        self._rotate_at, self._rotated_at = None, now
        self._judge_holders(now)
        self._fresh_generation()
        # Whatever becomes of the newcomers, the stream does not stay under the old keys.
        self._switch_at = now + limits.SWITCH
        receivers = bool(self.holders)
        if receivers:
            self._rekey(now)
        asking, self._asking = self._asking, {}
        for session, ask in asking.items():
            self._admit(session, ask, now)
        # Nobody waits for a rekey: the newcomers' first frame need not either.
        if not receivers:
            self._switch()

    def rejudge(self, now: float) -> None:
        """Make fresh keys at once if somebody who holds them may not any more (P6), and see who waits."""
        if not all(self._may_keep(session, holder) for session, holder in self.holders.items()):
            self._schedule(now)
        self._judge_held(now)

    def _may_keep(self, session: bytes, holder: Holder) -> bool:
        remote = self._state.remotes.get(session)
        try:
            if remote is None:
                return False
            allowed = self._allowed(remote, holder.epoch, holder.streams, holder.presented)
            return allowed.streams == holder.streams
        except (Refusal, PolicyRefused):
            return False

    def _judge_holders(self, now: float) -> None:
        for session, holder in list(self.holders.items()):
            remote = self._state.remotes.get(session)
            try:
                if remote is None or not remote.live(now):
                    raise Refusal("not-live", "it was gone when the next keys were sealed")
                allowed = self._allowed(remote, holder.epoch, holder.streams, holder.presented)
                holder.streams = allowed.streams
            except (Refusal, PolicyRefused) as error:
                if remote is not None:
                    self._judged("withdrawn", remote, holder.streams, error)
                del self.holders[session]

    def _admit(self, session: bytes, ask: Asking, now: float) -> None:
        remote = self._state.remotes.get(session)
        if remote is None:
            return
        try:
            if not remote.live(now):
                raise Refusal("not-live", "it was gone when its grant was to be sealed")
            allowed = self._allowed(remote, ask.epoch, ask.streams, ask.presented)
        except PolicyUndecided as error:
            self._hold(remote, ask, error, now)
            return
        except (Refusal, PolicyRefused) as error:
            self._turn_down(remote, ask, error)
            return
        self._grant(remote, ask, allowed, now)

    def _fresh_generation(self) -> None:
        self.key_seq += 1
        self._signing = self._state.me.signing
        verify_key = self._state.me.announce.signing
        for stream in self._streams:
            kid = self._state.next_kid()
            base_key = self._state.random(limits.BASE_KEY[self._suite])
            commit = commit_base_key(base_key, kid, self._state.session, verify_key)
            self._keys[stream] = GrantedKey(stream, kid, commit, base_key, verify_key)

    def _switch(self) -> None:
        self._switch_at = None
        # The epoch may have changed since this generation was made.
        assert self._signing is not None
        signing, self._signing = self._signing.private_bytes_raw(), None
        for key in self._keys.values():
            self._positions[key.stream] = Position(key.stream, key.kid, 0, key.commit)
            if any(key.stream in holder.streams for holder in self.holders.values()):
                seal = SealWith(key.stream, key.kid, key.base_key, signing, self._suite)
                self._state.effects.append(seal)
            else:
                self._state.effects.append(StopSealing(key.stream))

    def _grant(self, remote: Remote, ask: Asking, allowed: Allowed, now: float) -> None:
        me, secret = self._state.me, self._state.random(32)
        ctx = me.context("grant", ask.epoch.party, ask.request)
        keys = Keys(
            tuple(self._keys[stream] for stream in sorted(allowed.streams)),
            secret,
            self.key_seq,
            roster_hash(self._state, now),
            0,
        )
        sealed = sealing.seal_twice(ask.epoch.sealing, ask.epoch.data, keys.encode(), ctx)
        payload = Grant(ask.epoch.party.announcement, ask.nonce, sealed).encode()
        message, _ = me.sign("grant", payload, ctx)
        answered = Again(limits.ANSWER_AGAIN)
        answered.take(now)
        before = self.holders.get(remote.session)
        if before is None or (before.streams, before.why) != (allowed.streams, allowed.why):
            streams = tuple(sorted(allowed.streams))
            self._state.effects.append(Judged("granted", remote.peer, streams, "", allowed.why))
        self.holders[remote.session] = Holder(
            Link.begin(ctx, secret),
            allowed.streams,
            ask.epoch,
            ask.presented,
            ask.request,
            message,
            self.key_seq,
            allowed.why,
            answered,
            me.digest,
        )
        self._state.broadcast("grant", message)
        if before is not None and not before.streams <= allowed.streams:
            # It was still told the key of what it may not have by this request.
            self._schedule(now)

    def _rekey(self, now: float) -> None:
        me = self._state.me
        ctx = me.context("rekey")
        keks = {stream: self._state.random(32) for stream in self._keys}
        keys = tuple(
            NewKey(
                key.stream,
                key.kid,
                key.commit,
                wrap(keks[key.stream], key.base_key, key_aad(ctx, self.key_seq, key.kid)),
            )
            for key in self._keys.values()
        )
        links = []
        for session, holder in self.holders.items():
            number = holder.link.number
            message_key, holder.link = holder.link.next()
            theirs = [keks[key.stream] if key.stream in holder.streams else None for key in keys]
            wrapped = wrap(message_key, Rekey.encode_keks(theirs), link_aad(ctx, self.key_seq, session))
            links.append(Wrapped(session, number, wrapped))
        message, _ = me.sign("rekey", Rekey(self.key_seq, keys, tuple(links)).encode(), ctx)
        self._rekeys.append(CachedRekey(self.key_seq, message, now))
        self._state.broadcast("rekey", message)


def key_aad(ctx: bytes, key_seq: int, kid: int) -> bytes:
    """Associated data of a base key under its KEK (docs/protocol.md, Rekey)."""
    return b"dongled/1 key " + ctx + key_seq.to_bytes(8) + kid.to_bytes(8)


def link_aad(ctx: bytes, key_seq: int, holder: bytes) -> bytes:
    """Associated data of the KEKs under a link (docs/protocol.md, Rekey)."""
    return b"dongled/1 link " + ctx + key_seq.to_bytes(8) + holder
