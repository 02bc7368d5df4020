"""My side of others' streams: asking for keys, opening grants and rekeys, forgetting what is past.

docs/protocol.md, Subscribing. One request to a publisher is outstanding at a time; a grant is opened by the
token only for that one, after its signature and its outer seal held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dongled.agent.protocol import evidence, limits, sealing
from dongled.agent.protocol.api import (
    Abandoned,
    Evidence,
    EvidenceWanted,
    OpenWith,
    Peer,
    StopOpening,
    Stream,
)
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.feed import Asked, Feed, Gathering, Held
from dongled.agent.protocol.fields import Reader
from dongled.agent.protocol.links import Link, unwrap
from dongled.agent.protocol.messages import Grant, GrantedKey, Keys, NewKey, Refuse, Rekey, Request, Sealed
from dongled.agent.protocol.publisher import key_aad, link_aad
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote, RemoteEpoch
from dongled.agent.protocol.state import State
from dongled.media.keyring import commit_base_key
from dongled.media.rules import RULES


class Subscriber:
    """Times are CLOCK_BOOTTIME, seconds."""

    def __init__(self, state: State, want: Callable[[Peer, Stream], bool]) -> None:
        self._state = state
        self._want = want
        self._requests = 0
        self._ticked = float("-inf")
        self.feeds: dict[bytes, Feed] = {}

    # --- the roster

    def admitted(self, remote: Remote, may_publish: bool, now: float) -> None:
        """A terminal announced itself, or a new epoch, or was judged again: see what of it is wanted."""
        peer = remote.peer
        streams = [s for s in peer.streams if may_publish and self._want(peer, s)]
        wanted = {stream.id: stream for stream in streams if self._has_rule(stream, remote)}
        feed = self.feeds.get(peer.session)
        if feed is not None:
            feed.streams = wanted
            for stream in [stream for stream in feed.held if stream not in wanted]:
                del feed.held[stream]
                self._state.effects.append(StopOpening(peer.session, stream))
            feed.missing = feed.missing or not wanted.keys() <= feed.held.keys()
            if feed.link is not None and not feed.renewed and feed.renew_at == float("inf"):
                # Not all at once: the publisher's bus and this token have others to serve.
                jitter = int.from_bytes(self._state.random(2)) / 65_536
                feed.renew_at = now + jitter * limits.RENEW_SPREAD
        elif wanted:
            self.feeds[peer.session] = Feed(remote, wanted)

    def _has_rule(self, stream: Stream, remote: Remote) -> bool:
        if stream.codec not in RULES:
            error = Refusal("codec-refused", f"no rule for the {stream.codec!r} of {remote.peer.subject}")
            self._state.refused(error, remote.source, remote.session)
        return stream.codec in RULES

    def removed(self, session: bytes) -> None:
        feed = self.feeds.pop(session, None)
        if feed is None:
            return
        self._give_up(feed)
        self._abandon(feed)
        for stream in feed.held:
            self._state.effects.append(StopOpening(session, stream))

    def _abandon(self, feed: Feed) -> None:
        if feed.asked is not None and feed.asked.operation is not None:
            self._state.abandon(feed.asked.operation)
        feed.asked = None

    def forget(self) -> None:
        for session in list(self.feeds):
            self.removed(session)

    # --- asking

    def nonce_heard(self, remote: Remote, now: float) -> None:
        """A welcome or a beacon brought a nonce, without which nothing can be asked."""
        feed = self.feeds.get(remote.session)
        if feed is not None:
            self._maybe_ask(feed, now)

    def beacon(self, remote: Remote, now: float) -> None:
        """A publisher's verified beacon: see whether a key is missing, or is another than others got."""
        feed = self.feeds.get(remote.session)
        if feed is None or remote.beacon is None:
            return
        for position in remote.beacon.streams:
            held = feed.held.get(position.stream)
            if position.stream not in feed.streams:
                continue
            if held is None or position.kid > held.kid:
                feed.missing = True
            elif position.kid == held.kid and position.commit != held.commit:
                self._state.effects.append(StopOpening(remote.session, position.stream))
                del feed.held[position.stream]
                self._state.alarm("equivocation", f"{remote.peer.subject} shows different keys")
                raise Refusal("commitment", "the beacon commits to another key than the grant gave")
        self._maybe_ask(feed, now)

    def next_tick(self) -> float:
        times = [float("inf")]
        for feed in self.feeds.values():
            times += [feed.expires_at, *(at for at, _, _ in feed.retiring)]
            if feed.asked is not None:
                times.append(feed.asked.again_at)
                continue
            if feed.gathering is not None:
                times.append(feed.gathering.until)
                continue
            ask_at = feed.ask_at if feed.missing else max(feed.ask_at, feed.renew_at)
            if ask_at > self._ticked and self._can_ask(feed, ask_at):
                # Past its time it waits for a nonce, which no clock brings.
                times.append(ask_at)
        return min(times)

    def tick(self, now: float) -> None:
        self._ticked = now
        for feed in self.feeds.values():
            self._retire(feed, now)
            if now >= feed.expires_at:
                self._expire(feed)
            if feed.gathering is not None and not self._holds(feed, feed.gathering, now):
                self._give_up(feed)
            asked = feed.asked
            if asked is not None and asked.pending and asked.own != self._state.me.digest:
                # A grant would be sealed to keys that I am about to erase.
                self._abandon(feed)
            elif asked is not None and asked.again_at <= now:
                self._ask_again(feed, asked, now)
            self._maybe_ask(feed, now)

    def _can_ask(self, feed: Feed, now: float) -> bool:
        remote = feed.remote
        usable = bool(remote.nonce) and now - remote.nonce_at <= limits.ECHO_USABLE
        needed = feed.missing or now >= feed.renew_at
        return bool(feed.streams) and needed and feed.asked is None and usable

    def _maybe_ask(self, feed: Feed, now: float) -> None:
        if now < feed.ask_at or feed.gathering is not None or not self._can_ask(feed, now):
            return
        me, remote, operation = self._state.me, feed.remote, self._state.operation()
        until = remote.nonce_at + limits.ECHO_USABLE
        feed.gathering = Gathering(operation, me.digest, remote.epoch, remote.nonce, until)
        challenge = evidence.challenge(me.context("request", remote.epoch.party), remote.nonce)
        streams, missing = tuple(feed.streams), tuple(s for s in feed.streams if s not in feed.held)
        self._state.effects.append(EvidenceWanted(operation, remote.peer, streams, missing, challenge))

    def gathered(self, operation: int, shown: Evidence, now: float) -> None:
        """What there is to show with the request that ``EvidenceWanted`` was about: ask."""
        for feed in self.feeds.values():
            gathering = feed.gathering
            if gathering is not None and gathering.operation == operation:
                feed.gathering = None
                if not self._holds(feed, gathering, now):
                    self._maybe_ask(feed, now)
                elif self._can_ask(feed, now):
                    self._ask(feed, gathering, shown, now)
                return

    def _holds(self, feed: Feed, gathering: Gathering, now: float) -> bool:
        same = gathering.own == self._state.me.digest and gathering.epoch is feed.remote.epoch
        return same and now < gathering.until

    def _give_up(self, feed: Feed) -> None:
        if feed.gathering is not None:
            self._state.effects.append(Abandoned(feed.gathering.operation))
            feed.gathering = None

    def _ask(self, feed: Feed, gathering: Gathering, shown: Evidence, now: float) -> None:
        why = evidence.unfit(shown)
        if why is not None:
            self._state.refused(Refusal("evidence-unfit", f"{why}: it is asked without"), "")
            shown = Evidence()
        me, epoch = self._state.me, gathering.epoch
        nonce = self._state.random(limits.NONCE)
        self._requests += 1
        held = feed.key_seq if feed.link else 0
        inner = Request(tuple(feed.streams), gathering.echo, nonce, self._requests, held, shown)
        ctx = me.context("request", epoch.party)
        sealed = sealing.seal(epoch.sealing, inner.encode(), ctx)
        message, digest = me.sign("request", Sealed(epoch.party.announcement, sealed).encode(), ctx)
        feed.asked = Asked(message, digest, nonce, now, now + self._backoff(1), me.digest)
        feed.ask_at = now + limits.ASK_AGAIN
        self._state.broadcast("request", message)

    def _ask_again(self, feed: Feed, asked: Asked, now: float) -> None:
        if asked.operation is not None:
            asked.again_at = now + limits.RETRY_MOST
            return
        if now - asked.sent_at >= limits.RETRANSMIT:
            feed.asked = None
            return
        # The same bytes: whichever copy arrives, there is one request, one grant and one link.
        asked.tries += 1
        asked.again_at = now + self._backoff(asked.tries)
        self._state.broadcast("request", asked.message)

    def _backoff(self, tries: int) -> float:
        jitter = int.from_bytes(self._state.random(2)) / 65_536
        steady = min(limits.RETRY_FIRST * 2.0 ** (tries - 1), limits.RETRY_MOST)
        return steady * (1 + jitter / 2)

    # --- answers

    def refuse(self, signed: Signed, now: float) -> None:
        """The publisher says no. Raises Refusal."""
        outer = Sealed.parse("refuse", signed.payload)
        own = self._state.addressed(outer.to, now)
        remote, epoch = self._state.sender(signed.announcement, now)
        feed, asked = self._outstanding(remote)
        ctx = epoch.context("refuse", own.party, asked.digest)
        signed.verify_eddsa(epoch.signing, ctx)
        inner = Refuse.parse(own.sealing.open(outer.sealed, ctx))
        if inner.nonce != asked.nonce:
            raise Refusal("nonce-not-outstanding", "a refuse of another request")
        if inner.reason == "pending":
            feed.refused, asked.pending = inner.reason, True
            asked.again_at = now + limits.PENDING_PAUSE
            raise Refusal("pending", f"{remote.peer.subject} cannot tell yet")
        feed.asked, feed.refused = None, inner.reason
        feed.missing, feed.ask_at = True, now + limits.REFUSED_PAUSE
        raise Refusal("refused-by-peer", f"{remote.peer.subject}: {inner.reason}")

    def grant(self, signed: Signed, now: float) -> None:
        """Judge a grant up to the token. Each step prevents one thing:

        1. opening what was granted to another terminal, or to an epoch of mine that is gone;
        2. a grant that nobody asked for, a replayed one, a second derive for one request;
        3. a grant by anybody but the publisher asked, in this meeting, for this request;
        4. spending the token on what is not sealed to my epoch, or on what is no point of the curve.

        Raises Refusal.
        """
        # 1.
        outer = Grant.parse(signed.payload)
        own = self._state.addressed(outer.to, now)
        # 2.
        remote, epoch = self._state.sender(signed.announcement, now)
        feed, asked = self._outstanding(remote)
        if outer.nonce != asked.nonce or asked.operation is not None:
            raise Refusal("nonce-not-outstanding", "this grant's request was answered, or never made")
        # 3.
        ctx = epoch.context("grant", own.party, asked.digest)
        signed.verify_eddsa(epoch.signing, ctx)
        # 4.
        inner, data = own.sealing.open(outer.sealed, ctx), own.announce.data
        point = sealing.inner_point(inner)

        def done(shared: bytes, now: float) -> None:
            self._open_grant(feed, asked, epoch, data, inner, shared, ctx, now)

        def failed(reason: str, now: float) -> None:
            feed.asked, feed.ask_at = None, now + limits.ASK_AGAIN

        asked.operation = self._state.derive(remote.peer.terminal, point, done, failed)

    def _outstanding(self, remote: Remote) -> tuple[Feed, Asked]:
        feed = self.feeds.get(remote.session)
        if feed is None or feed.asked is None:
            raise Refusal("nonce-not-outstanding", "an answer to nothing that was asked")
        return feed, feed.asked

    def _open_grant(
        self,
        feed: Feed,
        asked: Asked,
        epoch: RemoteEpoch,
        data: bytes,
        inner: bytes,
        shared: bytes,
        ctx: bytes,
        now: float,
    ) -> None:
        feed.asked, feed.ask_at = None, now + limits.ASK_AGAIN
        plaintext = sealing.open_inner(inner, data, shared, ctx)
        keys = Keys.parse(plaintext, limits.BASE_KEY[epoch.suites[0]])
        if keys.key_seq < feed.key_seq:
            raise Refusal("key-seq-old", f"{keys.key_seq}, {feed.key_seq} is held")
        self._check(feed, {key.stream: key for key in keys.keys}, epoch)
        feed.remote.prove_by_message(asked.sent_at, now)
        feed.link, feed.key_seq = Link.begin(ctx, keys.link), keys.key_seq
        feed.granted = epoch.party.announcement
        if feed.renewed:
            feed.renew_at = float("inf")
        feed.refused, feed.missing = None, False
        self._install(feed, keys.keys, epoch, now)
        waiting, feed.waiting = feed.waiting, None
        if waiting is not None and feed.waiting_seq > feed.key_seq:
            waiting(now)

    # --- rekeys

    def rekey(self, signed: Signed, now: float) -> None:
        """Judge a rekey. Each step prevents one thing:

        1. a rekey in another's name or meeting;
        2. installing keys of somebody who is no longer there, or keys that are past;
        3. being left without keys and not knowing it;
        4. losing the link to a message that does not hold: the chain moves only once everything did.

        Raises Refusal.
        """
        rekey = Rekey.parse(signed.payload)
        # 1.
        remote, epoch = self._state.sender(signed.announcement, now)
        ctx = epoch.context("rekey")
        signed.verify_eddsa(epoch.signing, ctx)
        # 2.
        feed = self.feeds.get(remote.session)
        if feed is None or (feed.link is None and feed.asked is None):
            return None
        if not remote.live(now) and feed.link is not None:
            raise Refusal("not-live", f"{remote.peer.subject} rekeys without a fresh beacon")
        if rekey.key_seq == feed.key_seq:
            return None
        if rekey.key_seq < feed.key_seq:
            raise Refusal("key-seq-old", f"{rekey.key_seq}, {feed.key_seq} is held")
        # 3.
        mine = next((link for link in rekey.links if link.session == self._state.session), None)
        if mine is None:
            return self._left_out(feed, rekey, now)
        # 4.
        try:
            if feed.link is None:
                raise Refusal("link-unknown", "its grant is still to come")
            message_key, link = feed.link.at(mine.number)
            aad = link_aad(ctx, rekey.key_seq, self._state.session)
            opened = unwrap(message_key, mine.sealed, aad, "link-seal")
        except Refusal as refusal:
            if feed.asked is None:
                # The two ends disagree about the link: only a grant makes a new one.
                feed.link, feed.missing = None, True
                self._maybe_ask(feed, now)
                raise
            newest = feed.waiting is None or rekey.key_seq > feed.waiting_seq
            if newest and refusal.reason != "link-replayed":
                feed.waiting, feed.waiting_seq = lambda now: self.rekey(signed, now), rekey.key_seq
            return None
        keks = Rekey.parse_keks(opened, len(rekey.keys))
        keys = tuple(
            self._unseal(new, kek, ctx, rekey.key_seq, epoch)
            for new, kek in zip(rekey.keys, keks, strict=True)
            if kek is not None
        )
        self._check(feed, {key.stream: key for key in keys}, epoch)
        feed.link, feed.key_seq = link, rekey.key_seq
        feed.missing = False
        self._install(feed, keys, epoch, now)
        # A request for the new round's link, or for another stream, is still to be answered; one for these
        # keys is not.
        complete = feed.renewed and feed.streams.keys() <= feed.held.keys()
        if complete and feed.asked is not None and feed.asked.operation is None:
            feed.asked = None
        return None

    def _left_out(self, feed: Feed, rekey: Rekey, now: float) -> None:
        if feed.link is None:
            return
        feed.link, feed.missing = None, True
        for new in rekey.keys:
            if new.stream in feed.held:
                feed.retiring.append((now + limits.RETIRE, new.stream, new.kid))
        self._maybe_ask(feed, now)
        raise Refusal("left-out", f"{feed.remote.peer.subject} has rekeyed without me")

    def _unseal(self, new: NewKey, kek: bytes, ctx: bytes, key_seq: int, epoch: RemoteEpoch) -> GrantedKey:
        base_key = unwrap(kek, new.sealed, key_aad(ctx, key_seq, new.kid), "key-seal")
        if len(base_key) != limits.BASE_KEY[epoch.suites[0]]:
            raise Reader("rekey").fail("base key")
        return GrantedKey(new.stream, new.kid, new.commit, base_key, epoch.announce.signing)

    # --- keys

    def _check(self, feed: Feed, keys: Mapping[str, GrantedKey], epoch: RemoteEpoch) -> None:
        # A sender that gave two receivers two keys could show them two videos: the commitment, which
        # its beacon repeats to all, lets them compare.
        beacon = feed.remote.beacon
        named = {(at.stream, at.kid): at.commit for at in beacon.streams} if beacon else {}
        for key in keys.values():
            if key.stream not in {stream.id for stream in epoch.announce.streams}:
                raise Refusal("unknown-stream", "a key for a stream that was not announced")
            commit = commit_base_key(key.base_key, key.kid, feed.remote.session, key.signing)
            if commit != key.commit:
                raise Refusal("commitment", f"the key of {key.stream} is not the one committed to")
            held = feed.held.get(key.stream)
            if held is not None and (
                key.kid < held.kid or (key.kid == held.kid and key.commit != held.commit)
            ):
                raise Refusal("kid-old", f"generation {key.kid}, {held.kid} is held")
            if named.get((key.stream, key.kid), commit) != commit:
                raise Refusal("commitment", f"the beacon commits to another key of {key.stream}")

    def _install(self, feed: Feed, keys: tuple[GrantedKey, ...], epoch: RemoteEpoch, now: float) -> None:
        session = feed.remote.session
        for key in keys:
            stream, held = feed.streams.get(key.stream), feed.held.get(key.stream)
            if stream is None or (held is not None and held.kid == key.kid):
                continue
            self._state.effects.append(
                OpenWith(session, stream, key.kid, key.base_key, key.signing, epoch.suites[0])
            )
            feed.held[key.stream] = Held(key.kid, key.commit, key.signing)
            if held is not None:
                feed.retiring.append((now + limits.RETIRE, key.stream, key.kid))

    def _expire(self, feed: Feed) -> None:
        # Keys and numbers that a thief of the last round's secrets may have given me, unknown to their owner.
        signing = feed.remote.epoch.announce.signing
        if not feed.renewed:
            self._abandon(feed)
            feed.link, feed.key_seq, feed.waiting = None, 0, None
        for stream in [stream for stream, held in feed.held.items() if held.signing != signing]:
            del feed.held[stream]
            self._state.effects.append(StopOpening(feed.remote.session, stream))
        feed.missing = True

    def _retire(self, feed: Feed, now: float) -> None:
        due = [entry for entry in feed.retiring if entry[0] <= now]
        feed.retiring = [entry for entry in feed.retiring if entry[0] > now]
        for _, stream, below in due:
            self._state.effects.append(StopOpening(feed.remote.session, stream, below))
