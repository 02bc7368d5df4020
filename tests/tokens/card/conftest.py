from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.card import bench, pcscd
from support.card.bench import PivCard
from support.card.pcscd import Pcscd
from tokens.bench import new_pin


@pytest.fixture(scope="session")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this process finds any test's pcscd: Debian 13's library reads the variable once."""
    return tmp_path_factory.mktemp("pcscd") / "comm"


@pytest.fixture
def daemon(tmp_path: Path, socket: Path) -> Iterator[Pcscd]:
    """A pcscd of this test's own; it starts in 35 ms."""
    with pcscd.running(tmp_path) as running:
        socket.unlink(missing_ok=True)
        socket.symlink_to(running.path)
        yield running


@pytest.fixture
def blank(daemon: Pcscd, socket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PivCard]:
    """A PIV card as it is bought but for its PINs, in the reader."""
    monkeypatch.setenv(pcscd.SOCKET_VARIABLE, str(socket))
    card = bench.piv_card(daemon, new_pin(), new_pin())
    card.insert()
    yield card
    card.inserted.pull()


@pytest.fixture
def card(daemon: Pcscd, socket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PivCard]:
    """A PIV card with a terminal's keys and certificates, in the reader."""
    monkeypatch.setenv(pcscd.SOCKET_VARIABLE, str(socket))
    card = bench.piv_card(daemon, new_pin(), new_pin())
    bench.provision(card)
    card.insert()
    yield card
    card.inserted.pull()
