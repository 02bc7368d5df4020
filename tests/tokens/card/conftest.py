from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.card import bench, pcscd
from support.card.bench import PivCard
from support.card.pcscd import Pcscd
from tokens.bench import new_pin


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Pcscd]:
    """A pcscd of this test's own; it starts in 35 ms."""
    with pcscd.running(tmp_path) as running:
        yield running


@pytest.fixture
def blank(daemon: Pcscd, monkeypatch: pytest.MonkeyPatch) -> Iterator[PivCard]:
    """A PIV card as it is bought but for its PINs, in the reader."""
    monkeypatch.setenv(pcscd.SOCKET_VARIABLE, str(daemon.path))
    card = bench.piv_card(daemon, new_pin(), new_pin())
    card.insert()
    yield card
    card.inserted.pull()


@pytest.fixture
def card(daemon: Pcscd, monkeypatch: pytest.MonkeyPatch) -> Iterator[PivCard]:
    """A PIV card with a terminal's keys and certificates, in the reader."""
    monkeypatch.setenv(pcscd.SOCKET_VARIABLE, str(daemon.path))
    card = bench.piv_card(daemon, new_pin(), new_pin())
    bench.provision(card)
    card.insert()
    yield card
    card.inserted.pull()
