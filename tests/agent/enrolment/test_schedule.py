"""The renewal's times, as plain arithmetic."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dongled.agent.enrolment.schedule import SETTLED, SOONEST, jitter_of, seconds_to_first, seconds_to_renewal
from support.authority import NOW, urn

DAY = 86400.0
END = NOW + timedelta(days=100)


def wait(day: float, jitter: float = 0.5, failures: int = 0, draw: float = 1.0) -> float:
    """Days, of a certificate that lives 100."""
    return round(seconds_to_renewal(NOW, END, NOW + timedelta(days=day), jitter, draw, failures) / DAY, 6)


def test_at_eighty_per_cent_and_a_little() -> None:
    assert wait(0, jitter=0) == 80
    assert round(wait(0, jitter=0.999)) == 84
    assert wait(30, jitter=0.5) == 52
    # A clock before the certificate's time.
    assert wait(-10, jitter=0) == 90


def test_ever_later_after_a_failure() -> None:
    waits = [wait(82, failures=failures) for failures in range(1, 40)]
    assert [round(days * DAY) for days in waits[:3]] == [30, 60, 120]
    assert waits == sorted(waits)
    # Not less often than each 4 %: there are some more tries before the end.
    assert waits[-1] == 4
    # Anywhere in the pause.
    assert round(wait(82, failures=5, draw=0) * DAY) == SOONEST
    assert round(wait(82, failures=5, draw=0.5) * DAY) == (480 + SOONEST) / 2
    assert wait(82, failures=SETTLED, draw=0) == round(0.75 * wait(82, failures=SETTLED), 6)
    hour = timedelta(hours=1)
    # It goes on after the end, at least daily: a platform may still renew.
    assert wait(101, failures=99) == 1
    assert 0 < seconds_to_renewal(NOW, NOW + 100 * hour, NOW + 150 * hour, 0.5, 1.0, 99) <= 4 * 3600


def test_switched_on_late() -> None:
    assert wait(95, jitter=0) == 0
    assert 0 < wait(95, jitter=0.9) * DAY <= 300
    assert (
        seconds_to_renewal(NOW, NOW + timedelta(seconds=100), NOW + timedelta(seconds=99), 0.5, 1.0, 0) == 2
    )


def test_a_fleet_is_spread() -> None:
    places = sorted(jitter_of(urn()) for _ in range(400))
    assert all(0 <= place < 1 for place in places)
    assert max(after - before for before, after in itertools.pairwise(places)) < 0.05
    assert jitter_of("urn:uuid:a") == jitter_of("urn:uuid:a")


def test_the_first_certificate() -> None:
    waits = [seconds_to_first(1.0, failures) for failures in range(12)]
    assert waits[:4] == [0, 30, 60, 120]
    assert waits == sorted(waits)
    assert waits[-1] == 3600
    # Anywhere in the pause, but not at once; and a refused code hourly, however the dice fall.
    assert [seconds_to_first(0.0, failures) for failures in (1, 4, SETTLED - 1)] == [SOONEST] * 3
    assert seconds_to_first(0.0, SETTLED) == 0.75 * 3600


@given(
    st.floats(0, 1, exclude_max=True),
    st.integers(-(10**9), 10**10),
    st.integers(0, 10**9),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 9999),
)
def test_never_at_once_again_and_never_too_late(
    jitter: float, passed: int, life: int, draw: float, failures: int
) -> None:
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    now = min(begin + timedelta(seconds=passed), datetime(9000, 1, 1, tzinfo=UTC))
    found = seconds_to_renewal(begin, begin + timedelta(seconds=life), now, jitter, draw, failures)
    assert found >= 0
    if failures and (now - begin).total_seconds() > life:
        assert 10 <= found <= 86400
