"""Nonces: whose they are, and how long they count."""

from __future__ import annotations

import secrets

import pytest

from dongled.agent.protocol.liveness import Nonces
from dongled.agent.protocol.quota import Quota
from dongled.agent.protocol.refusal import Refusal

ME, OTHER = b"m" * 16, b"o" * 16


@pytest.mark.property("P11")
def test_a_nonce_counts_for_25_seconds_and_for_whom_it_was_issued() -> None:
    nonces = Nonces(secrets.token_bytes)
    mine, all_s = nonces.issue(100.0, ME), nonces.issue(101.0)
    assert nonces.issued_at(mine, ME, 125.0) == 100.0
    assert nonces.issued_at(all_s, OTHER, 126.0) == 101.0
    for nonce, session, now in [
        (mine, OTHER, 101.0),
        (mine, ME, 125.1),
        (all_s, ME, 126.1),
        (bytes(16), ME, 0.0),
        (b"", ME, 0.0),
    ]:
        with pytest.raises(Refusal, match="nonce-not-outstanding"):
            nonces.issued_at(nonce, session, now)


def test_issued_nonces_are_bounded() -> None:
    nonces = Nonces(secrets.token_bytes)
    first = nonces.issue(1.0)
    for _ in range(1000):
        nonces.issue(1.0)
    with pytest.raises(Refusal):
        nonces.issued_at(first, ME, 1.0)
    assert len(nonces._beacons) + len(nonces._welcomes) < 300


def test_a_source_refills_and_sources_are_bounded() -> None:
    quota = Quota()
    assert [quota.take("a", 0.0) for _ in range(201)] == [True] * 200 + [False]
    assert quota.take("b", 0.0)
    assert [quota.take("a", 1.0) for _ in range(31)] == [True] * 30 + [False]
    for n in range(1000):
        quota.take(str(n), 1.0)
    assert len(quota._left) == 256


@pytest.mark.property("P13")
def test_however_many_are_welcomed_the_beacons_nonces_count_as_long_as_ever() -> None:
    """Else a few insiders that come again and again would have everybody else be taken for silent."""
    nonces = Nonces(secrets.token_bytes)
    said = nonces.issue(0.0)
    for second in range(25):
        for number in range(64):
            nonces.issue(second, number.to_bytes(16))
        # As where the token fails, and each is for a beacon that is never sent.
        nonces.issue(second)
    assert nonces.issued_at(said, OTHER, 25.0) == 0.0
    with pytest.raises(Refusal):
        nonces.issued_at(said, OTHER, 25.1)
