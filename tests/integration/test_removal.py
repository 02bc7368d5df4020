"""A terminal whose keys are on a card: what becomes of the meeting when the card, or its PIN, goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.card_terminal import CardTerminal, make_card_terminal
from integration.conftest import Company
from integration.running import PATIENCE, Running
from support.card import pcscd
from support.card.pcscd import Pcscd
from tokens.bench import new_pin, write_pin

pytestmark = pytest.mark.timeout(300)

_TRIES = 3


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pcscd]:
    with pcscd.running(tmp_path_factory.mktemp("pcscd")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def prepared(
    company: Company, reader: Pcscd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CardTerminal]:
    """The camera's keys on a card; made once."""
    made = make_card_terminal(
        tmp_path_factory.mktemp("card"), "camera", "publisher", company.authority, reader
    )
    yield made
    made.card.inserted.pull()


@pytest.mark.fault("one wrong PIN, ten restarts")
def test_a_wrong_pin_and_ten_restarts_use_one_try(
    company: Company, prepared: CardTerminal, tmp_path: Path
) -> None:
    assert prepared.card.applet.pin.left == _TRIES
    cast = replace(prepared.cast, folder=tmp_path)
    write_pin(tmp_path / "pin", new_pin())
    state = {'directory = "state"': f'directory = "{tmp_path / "state"}"'}
    reasons = []
    for number in range(11):
        camera = Running.start(
            replace(company, camera=cast), "ws://127.0.0.1:1", "none", "camera",
            tmp_path / str(number), {**prepared.changes, **state},
        )  # fmt: skip
        assert camera.process.wait(PATIENCE) == 1
        assert prepared.card.applet.pin.left == _TRIES - 1
        reasons.append(camera.log.split("[")[-1].split("]")[0])
    assert reasons == ["pin-wrong", *["pin-refused-before"] * 10]
    prepared.card.applet.pin.left = _TRIES
