"""Expelling a terminal, as a moderator says it and as the others judge it (docs/protocol.md, Expulsion)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dongled.agent.errors import AgentError
from dongled.agent.protocol import cose, limits
from dongled.agent.protocol.api import Expelled, Peer
from dongled.agent.protocol.cose import Signed
from dongled.agent.protocol.messages import Expel
from dongled.agent.protocol.refusal import Refusal
from dongled.agent.protocol.remote import Remote
from dongled.agent.protocol.state import State, UnknownSender

MODERATOR = "moderator"


@dataclass(slots=True)
class Order:
    """An expulsion of mine, said again until it ends. ``epoch`` is that of ``message``."""

    target: Peer
    reason: str
    counter: int
    until: float
    repeat_at: float
    gap: float = 1.0
    epoch: int = 0
    message: bytes = b""
    signing: bool = False


class Expulsions:
    """Times are CLOCK_BOOTTIME, seconds. ``remove`` takes a terminal off the roster."""

    def __init__(
        self, state: State, chain: Sequence[bytes], remove: Callable[[Remote, str, float], None]
    ) -> None:
        self._state = state
        self._chain = tuple(chain)
        self._remove = remove
        self._counter = 0
        self._orders: list[Order] = []
        self._taken: OrderedDict[tuple[bytes, int], None] = OrderedDict()

    # --- as a moderator

    def order(self, session: bytes, reason: str, now: float) -> None:
        """Expel this session's terminal.

        Raises PolicyRefused for my own certificate, AgentError ``not-moderator``, ``not-joined``,
        ``no-such-peer``, ``bad-expel-reason`` or ``too-many-expulsions``.
        """
        if MODERATOR not in self._state.policy.check_identity(self._chain).roles:
            raise AgentError(
                "not-moderator",
                "This terminal may not expel anybody: its certificate has no moderator role.",
                "Use a terminal whose certificate was issued with that role.",
            )
        if self._state.own is None:
            raise AgentError("not-joined", "This terminal has not joined yet.", "Try again in a moment.")
        target = self._state.remotes.get(session)
        if target is None:
            raise AgentError("no-such-peer", "It has left the meeting.", "See 'dongled status'.")
        if len(reason.encode()) > limits.EXPEL_REASON or not (reason.isprintable()):
            raise AgentError(
                "bad-expel-reason",
                "The reason is too long or not plain text.",
                f"Use one line of at most {limits.EXPEL_REASON} bytes.",
            )
        if len(self._orders) >= limits.EXPELS:
            raise AgentError(
                "too-many-expulsions",
                f"{limits.EXPELS} of this terminal's expulsions are in force.",
                "Have the authority revoke certificates that must stay away.",
            )
        self._counter += 1
        order = Order(target.peer, reason, self._counter, now + limits.EXPEL_LIFETIME, now)
        self._orders.append(order)
        self._apply(target.peer.terminal, order.until, self._state.me.announce.terminal, reason, now)
        self._say(order, now)

    def forget(self) -> None:
        self._orders.clear()

    def next_tick(self) -> float:
        return min((order.repeat_at for order in self._orders if not order.signing), default=float("inf"))

    def tick(self, now: float) -> None:
        self._orders = [order for order in self._orders if now < order.until]
        for order in self._orders:
            if now >= order.repeat_at and not order.signing:
                self._say(order, now)

    def _say(self, order: Order, now: float) -> None:
        # Whoever comes later, or missed it, has it from a repetition; the token signs once in an epoch.
        order.repeat_at, order.gap = now + order.gap, min(2 * order.gap, limits.BEACON)
        me = self._state.me
        if order.epoch == me.party.epoch:
            self._state.broadcast("expel", order.message)
            return
        peer = order.target
        payload = Expel(
            leaf=me.party.leaf,
            session=me.party.session,
            epoch=me.party.epoch,
            counter=order.counter,
            terminal=peer.terminal,
            target=peer.session,
            target_leaf=peer.leaf,
            reason=order.reason,
            lifetime=max(1, int(order.until - now)),
        ).encode()
        protected = cose.token_header(me.chain[:1])
        tbs = cose.structure("expel", protected, payload, me.context("expel"))

        def done(signature: bytes, now: float) -> None:
            order.signing = False
            order.epoch = me.party.epoch
            order.message = cose.envelope("expel", protected, payload, signature)
            self._state.broadcast("expel", order.message)

        def failed(reason: str, now: float) -> None:
            order.signing, order.repeat_at = False, now + limits.TOKEN_AGAIN

        order.signing = True
        self._state.sign("expel", hashlib.sha256(tbs).digest(), done, failed)

    # --- as everybody else

    def heard(self, signed: Signed, now: float) -> None:
        """Judge an expulsion. Each step prevents one thing:

        1. a word of mine coming back;
        2. an order of another session, epoch or certificate than the announced one;
        3. anybody but the holder of the identity key giving it;
        4. a moderator's order from a meeting that is over, played again to this one; one that names this
           session of mine cannot be, and its moderator echoes me no more;
        5. an order of somebody who is no moderator, as the policy has it now;
        6. an order being taken again when it has ended;
        7. a target that is not the terminal that it is named to be.

        Raises Refusal or PolicyRefused.
        """
        expel = Expel.parse(signed.payload)
        # 1.
        if expel.session == self._state.session:
            raise Refusal("reflected", "an expulsion of my own came back")
        # 2.
        remote = self._state.remotes.get(expel.session)
        if remote is None:
            self._state.check_known_bad(expel.session)
        if remote is None or expel.epoch > remote.epoch.party.epoch:
            raise UnknownSender(expel.session, "an expulsion without an announcement")
        epoch = remote.epoch_numbered(expel.epoch, now)
        if epoch is None:
            raise Refusal("stale-epoch", f"epoch {expel.epoch}, {remote.epoch.party.epoch} is known")
        leaf = hashlib.sha256(signed.chain[0]).digest()
        if len(signed.chain) != 1 or not expel.leaf == leaf == remote.peer.leaf:
            raise Refusal("identity-mismatch", "an expulsion under another certificate")
        # 3.
        signed.verify_es256(remote.identity.public_key, epoch.context("expel"))
        # 4.
        mine = expel.target == self._state.session and expel.terminal == self._state.me.announce.terminal
        if not mine and not remote.live(now):
            raise Refusal("not-live", f"{remote.peer.subject} expels without a fresh beacon")
        # 5.
        if MODERATOR not in self._state.policy.check_identity(remote.chain).roles:
            raise Refusal("not-moderator", f"{remote.peer.subject} may not expel anybody")
        # 6.
        key = (expel.session, expel.counter)
        if key in self._taken:
            return
        # 7.
        known = self._state.remotes.get(expel.target)
        if known is not None and known.peer.terminal != expel.terminal:
            raise Refusal("expel-target", f"this session is {known.peer.terminal}'s, not {expel.terminal}'s")
        self._taken[key] = None
        while len(self._taken) > limits.TOMBSTONES:
            self._taken.popitem(last=False)
        if self._state.own is not None and expel.terminal == self._state.own.announce.terminal:
            self._state.alarm("expelled", f"{remote.peer.subject} has expelled this terminal: {expel.reason}")
            return
        self._apply(expel.terminal, now + expel.lifetime, remote.peer.terminal, expel.reason, now)

    def _apply(self, terminal: str, until: float, by: str, reason: str, now: float) -> None:
        self._state.bans.add(terminal, until)
        self._state.effects.append(Expelled(terminal, by, reason))
        # By its name: a certificate can be spelt anew, and a session begun again.
        for remote in [r for r in self._state.remotes.values() if r.peer.terminal == terminal]:
            self._state.turn_away(remote.session, remote.epoch.party.announcement, "expelled")
            self._remove(remote, "expelled", now)
