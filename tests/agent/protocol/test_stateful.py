"""The machine under the events of the models (docs/models.md), in whatever order hypothesis likes.

What the models prove of a small world is watched here in the code itself, after every step; and once the bus
is fair, everybody who may watch does.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.protocol.bus import CAMERA, Bus, SoftToken, Terminal, all_watch
from agent.protocol.test_schedules import HARMLESS
from dongled.agent.protocol import limits

REASONS = HARMLESS | {
    "announcement-refused",
    "expelled",
    "expel-target",
    "own-certificate",
    "pending",
    "reflected",
    "refused-by-peer",
    "token-absent",
}
MOST = 5
# A pulled token or plug is noticed within 25 s of the last nonce's issue, and the fresh keys are in use (P6).
BLIND = limits.LIVE + 2.0
# After the bus became fair: a retry at its longest, a beacon, and whoever fell silent is gone.
SETTLES = 45.0

which = st.integers(0, 11)
# What passes after each event.
pauses = st.sampled_from([0.0, 0.02, 0.3, 1.0, 4.0])


class Meeting(RuleBasedStateMachine):
    """Terminals come and go under one moderator, over a bus that does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = Bus()
        self.here: list[Terminal] = []
        self.gone: dict[str, tuple[Terminal, float]] = {}
        self.began: dict[bytes, float] = {}
        self.rounds: dict[str, float] = {}

    # --- events

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.bus = Bus(seed)
        self.moderator = self._join("moderator")
        self._join("first")
        self.bus.run(2)

    def _join(self, name: str, token: SoftToken | None = None) -> Terminal:
        terminal = self.bus.join(name, CAMERA, token=token)
        self.began[terminal.session] = self.bus.now
        self.here.append(terminal)
        return terminal

    def _one(self, number: int) -> Terminal:
        """Any but the moderator."""
        return self.here[1 + number % (len(self.here) - 1)]

    def _goes(self, terminal: Terminal) -> None:
        self.here.remove(terminal)
        self.gone[terminal.source] = terminal, self.bus.now

    @precondition(lambda self: len(self.here) < MOST)
    @rule(after=pauses)
    def join(self, after: float) -> None:
        self._join(f"t{len(self.bus.terminals)}")
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 2)
    @rule(number=which, after=pauses)
    def leave(self, number: int, after: float) -> None:
        terminal = self._one(number)
        terminal.member.leave(self.bus.now)
        self.bus.settle(terminal)
        self._goes(terminal)
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 2)
    @rule(number=which, after=pauses)
    def fall_silent(self, number: int, after: float) -> None:
        terminal = self._one(number)
        self.bus.vanish(terminal)
        self._goes(terminal)
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 1)
    @rule(number=which, after=pauses)
    def restart(self, number: int, after: float) -> None:
        terminal = self._one(number)
        self.bus.vanish(terminal)
        self._goes(terminal)
        self._join(terminal.name, terminal.token)
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 2)
    @rule(number=which, after=pauses)
    def pull_its_token(self, number: int, after: float) -> None:
        """And its process goes on, hostile, with every secret that it has."""
        terminal = self._one(number)
        terminal.token_works = False
        self._goes(terminal)
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 2)
    @rule(number=which, after=pauses)
    def expel(self, number: int, after: float) -> None:
        terminal = self._one(number)
        known = {status.peer.session for status in self.moderator.member.peers(self.bus.now)}
        if terminal.session in known:
            self.moderator.member.expel(terminal.session, "", self.bus.now)
            self.bus.settle(self.moderator)
            self._goes(terminal)
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 1)
    @rule(number=which, after=pauses)
    def begin_a_round(self, number: int, after: float) -> None:
        terminal = self._one(number)
        # Never before the token has certified the one before.
        if self.bus.now - self.rounds.get(terminal.source, self.began[terminal.session]) > limits.GRACE:
            self.rounds[terminal.source] = self.bus.now
            terminal.member._rounds._begin_at = self.bus.now
            terminal.member.tick(self.bus.now)
            self.bus.settle(terminal)
        self.bus.run(after)

    @precondition(lambda self: len(self.here) > 1)
    @rule(number=which, after=pauses)
    def the_sfu_says_it_left(self, number: int, after: float) -> None:
        for other in self.here:
            other.member.source_left(self._one(number).source, self.bus.now)
            self.bus.settle(other)
        self.bus.run(after)

    @rule(
        loss=st.sampled_from([0.0, 0.1, 0.3]),
        duplicates=st.sampled_from([0.0, 0.5]),
        jitter=st.sampled_from([0.0, 0.3, 3.0]),
    )
    def the_bus_changes(self, loss: float, duplicates: float, jitter: float) -> None:
        self.bus.loss, self.bus.duplicates, self.bus.jitter = loss, duplicates, jitter

    @precondition(lambda self: self.bus.log)
    @rule(back=st.integers(1, 400), after=pauses)
    def something_is_played_again(self, back: int, after: float) -> None:
        _, _, message = self.bus.log[-min(back, len(self.bus.log))]
        for receiver in self.here:
            self.bus.deliver(receiver, message)
        self.bus.run(after)

    @rule(long=st.floats(5.0, 30.0))
    def nothing_happens(self, long: float) -> None:
        self.bus.run(long)

    # --- what always holds

    @invariant()
    def each_key_is_used_once_and_is_what_was_sealed_with(self) -> None:
        for sender in self.bus.terminals:
            sealed = {seal.kid: seal.base_key for _, seal in sender.sealed_at}
            assert len(sealed) == len(sender.sealed_at)
            assert len(set(sealed.values())) == len(sealed)
            for receiver in self.bus.terminals:
                for opened in receiver.ever_opened:
                    if opened.session == sender.session:
                        assert sealed.get(opened.kid, opened.base_key) == opened.base_key

    @invariant()
    def newcomers_hold_no_earlier_generation(self) -> None:
        for sender in self.bus.terminals:
            first_use = {seal.base_key: at for at, seal in sender.sealed_at}
            for receiver in self.bus.terminals:
                since = self.began[receiver.session]
                for opened in receiver.ever_opened:
                    assert first_use.get(opened.base_key, since) >= since

    @invariant()
    def who_is_gone_is_blind(self) -> None:
        for terminal, since in self.gone.values():
            held = {opened.base_key for opened in terminal.ever_opened}
            for sender in self.here:
                left = [at for at, session, _ in sender.left if session == terminal.session and at >= since]
                by = [at + 2 for at in left]
                if not (terminal.on_bus and terminal.token_works):
                    by.append(since + BLIND)
                # Who was expelled, or whose goodbye was lost, is unknown to be gone until it is told.
                if by and self.bus.now > min(by):
                    assert sender.sealing() not in held

    @invariant()
    def what_is_refused_has_a_reason_that_such_a_bus_explains(self) -> None:
        for terminal in self.bus.terminals:
            assert terminal.reasons() <= REASONS
            assert {alarm.reason for alarm in terminal.alarms} <= {"expelled", "roster-split"}

    def teardown(self) -> None:
        if self.here:
            self.bus.loss = self.bus.duplicates = self.bus.jitter = 0.0
            self.bus.run(SETTLES)
            assert all_watch(self.here)
            self.who_is_gone_is_blind()


@pytest.mark.property("P5")
@pytest.mark.property("P6")
@pytest.mark.property("P11")
@pytest.mark.property("P13")
class TestMeeting(Meeting.TestCase):  # type: ignore[misc, valid-type] # hypothesis makes it
    # No shrinking: it takes minutes; the steps of a failure are told as they were.
    settings = settings(
        phases=[Phase.generate],
        max_examples=10,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
    )
