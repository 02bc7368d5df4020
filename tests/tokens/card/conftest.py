from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.card import bench, pcscd
from support.card.bench import PivCard
from support.card.pcscd import Pcscd
from tokens.bench import new_pin


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pcscd]:
    """A pcscd for the module's tests; each inserts and pulls its own cards."""
    with pcscd.running(tmp_path_factory.mktemp("pcscd")) as running:
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
