"""A terminal whose keys are on a card: what becomes of the meeting when the card, or its PIN, goes wrong."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.card_terminal import OPENSC, YKCS11, CardTerminal, make_card_terminal
from integration.conftest import Company
from integration.running import PATIENCE, Running, nothing_leaked, opened, sending
from support.card import bench, pcscd
from support.card.bench import PivCard
from support.card.pcscd import Pcscd
from support.janus import JanusServer
from tokens.bench import new_pin, write_pin

pytestmark = pytest.mark.timeout(300)

_TRIES = 3
_VERIFY = 0x20
# Media stops within a second; three times that on a busy machine.
_SOON = 3.0

MODULES = pytest.mark.parametrize("module", [OPENSC, YKCS11], ids=["opensc", "ykcs11"])


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


@pytest.fixture
def card(prepared: CardTerminal) -> Iterator[PivCard]:
    """In the reader at the beginning, and again at the end."""
    yield prepared.card
    prepared.card.daemon.stop()
    prepared.card.inserted.pull()
    prepared.card.daemon.start()
    prepared.card.insert()


Meet = Callable[..., tuple[Running, Running]]


@pytest.fixture
def meet(company: Company, prepared: CardTerminal, janus: JanusServer, tmp_path: Path) -> Iterator[Meet]:
    """Starts a camera on the card, through a module, and a viewer."""
    room = f"room-{next(company.numbers)}"
    with contextlib.ExitStack() as stack:

        def start(module: str = OPENSC, token: str = "") -> tuple[Running, Running]:
            terminal = prepared.by(module)
            both = replace(company, camera=terminal.cast)
            pin = f'pin-file = "{terminal.cast.folder / "pin"}"'
            changes = {**terminal.changes, pin: f"{pin}\n{token}"}
            camera = Running.start(both, janus.url, room, "camera", tmp_path / "camera", changes)
            stack.callback(camera.stop)
            viewer = Running.start(both, janus.url, room, "viewer", tmp_path / "viewer", {})
            stack.callback(viewer.stop)
            return camera, viewer

        yield start


def token_becomes(running: Running, state: str) -> None:
    running.until(lambda _: running.status().token.state == state)


@MODULES
@pytest.mark.fault("pulled in mid-meeting, and inserted again")
def test_pulled_in_mid_meeting(card: PivCard, meet: Meet, module: str) -> None:
    camera, viewer = meet(module)
    viewer.until(lambda meeting: opened(meeting) > 10)
    for _ in range(3):
        session = camera.status().meetings[0].session
        card.inserted.pull()
        pulled = time.monotonic()
        camera.until(lambda meeting: sending(meeting).generation is None)
        stopped = time.monotonic() - pulled
        viewer.until(lambda meeting: not meeting.peers)
        assert stopped < _SOON
        assert any(event.startswith("left (leave)") for event in viewer.status().meetings[0].events)
        token_becomes(camera, "ABSENT")
        assert "[token-absent]" in camera.status().token.why
        assert "[token-absent]" in camera.until(lambda meeting: meeting.state == "waiting").why
        card.insert()
        # Another session, whose streams are another entry: the old one is gone from the list.
        viewer.until(lambda meeting: opened(meeting) > 10)
        assert camera.status().token.state == "READY"
        assert camera.status().meetings[0].session != session
    nothing_leaked(camera, card.pin_text, card.puk_text)


@pytest.mark.fault("pulled in mid-meeting, mute")
def test_mute_stays_in_the_room_without_keys(card: PivCard, meet: Meet) -> None:
    camera, viewer = meet(token='on-removal = "mute"')
    viewer.until(lambda meeting: opened(meeting) > 10)
    card.inserted.pull()
    meeting = camera.until(lambda meeting: meeting.state == "muted")
    assert sending(meeting).generation is None
    assert not meeting.peers
    viewer.until(lambda meeting: not meeting.peers)
    sealed = sending(meeting).frames_sealed
    assert sending(camera.status().meetings[0]).frames_sealed == sealed
    card.insert()
    camera.until(lambda later: later.session != meeting.session and later.state == "joined")
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("inserted again after grace")
def test_grace_delays_leaving_alone(card: PivCard, meet: Meet) -> None:
    camera, viewer = meet(token="grace = 3")
    viewer.until(lambda meeting: opened(meeting) > 10)
    card.inserted.pull()
    camera.until(lambda meeting: meeting.state == "muted")
    assert not viewer.until(lambda meeting: not meeting.peers).peers
    camera.until(lambda meeting: meeting.state == "waiting")
    card.insert()
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("inserted again within grace")
def test_inserted_again_within_grace(card: PivCard, meet: Meet) -> None:
    camera, viewer = meet(token="grace = 300")
    viewer.until(lambda meeting: opened(meeting) > 10)
    card.inserted.pull()
    muted = camera.until(lambda meeting: meeting.state == "muted")
    assert sending(muted).generation is None
    viewer.until(lambda meeting: not meeting.peers)
    card.insert()
    # It never left the room, and is somebody else in it all the same.
    again = camera.until(lambda meeting: meeting.state == "joined")
    assert again.session not in ("", muted.session)
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("a 200 ms blip")
def test_a_blip(card: PivCard, meet: Meet) -> None:
    camera, viewer = meet()
    viewer.until(lambda meeting: opened(meeting) > 10)
    signed = camera.status().token.sign
    card.inserted.pull()
    time.sleep(0.2)
    card.inserted.insert()
    # Seen by pcscd or not: the token signs again, and the picture goes on or comes again.
    session = camera.status().meetings[0].session
    camera.until(
        lambda meeting: camera.status().token.sign > signed + 1 or meeting.session not in ("", session)
    )
    token_becomes(camera, "READY")
    seen = opened(viewer.status().meetings[0])
    viewer.until(lambda meeting: opened(meeting) > seen + 30 or 10 < opened(meeting) < seen)


@pytest.mark.fault("another card inserted in mid-meeting")
def test_another_card(card: PivCard, meet: Meet) -> None:
    camera, viewer = meet()
    viewer.until(lambda meeting: opened(meeting) > 10)
    card.inserted.pull()
    token_becomes(camera, "ABSENT")
    other = bench.piv_card(card.daemon, card.pin_text, card.puk_text, serial=0x0BADCAFE)
    bench.provision(other)
    other.insert()
    try:
        token_becomes(camera, "WRONG_TOKEN")
        camera.until(lambda meeting: meeting.state == "waiting")
        assert _VERIFY not in [instruction for instruction, data in other.inserted.exchanged if len(data) > 5]
    finally:
        other.inserted.pull()
    card.insert()
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("pcscd killed and restarted")
def test_pcscd_is_restarted(card: PivCard, meet: Meet) -> None:
    camera, viewer = meet()
    viewer.until(lambda meeting: opened(meeting) > 10)
    card.daemon.stop()
    viewer.until(lambda meeting: not meeting.peers)
    token_becomes(camera, "ABSENT")
    card.inserted.pull()
    card.daemon.start()
    card.insert()
    viewer.until(lambda meeting: opened(meeting) > 10)


@MODULES
@pytest.mark.fault("pcscd and card absent at start")
def test_started_without_pcscd(card: PivCard, meet: Meet, module: str) -> None:
    card.daemon.stop()
    card.inserted.pull()
    camera, viewer = meet(module)
    camera.until(lambda meeting: meeting.state == "waiting")
    assert camera.status().token.state == ("ABSENT" if module == OPENSC else "FAULT")
    card.daemon.start()
    token_becomes(camera, "ABSENT")
    card.insert()
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("a card held exclusively at start")
def test_started_while_another_program_holds_the_card(card: PivCard, meet: Meet) -> None:
    with bench.held(card):
        camera, viewer = meet()
        token_becomes(camera, "BUSY")
        assert "[token-busy]" in camera.status().token.why
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("PIN blocked at start, and unblocked")
def test_started_with_a_blocked_pin(card: PivCard, meet: Meet) -> None:
    card.applet.pin.left = 0
    camera, viewer = meet()
    token_becomes(camera, "PIN_BLOCKED")
    card.applet.pin.left = _TRIES
    viewer.until(lambda meeting: opened(meeting) > 10)


@pytest.mark.fault("one wrong PIN, ten restarts")
def test_a_wrong_pin_and_ten_restarts_use_one_try(
    company: Company, prepared: CardTerminal, tmp_path: Path
) -> None:
    assert prepared.card.applet.pin.left == _TRIES
    cast = replace(prepared.cast, folder=tmp_path)
    write_pin(tmp_path / "pin", new_pin())
    state = {'directory = "state"': f'directory = "{tmp_path / "state"}"'}
    for number in range(11):
        camera = Running.start(
            replace(company, camera=cast), "ws://127.0.0.1:1", "none", "camera",
            tmp_path / str(number), {**prepared.changes, **state},
        )  # fmt: skip
        if number == 0:
            assert camera.process.wait(PATIENCE) == os.EX_CONFIG
            assert "[pin-wrong]" in camera.log
        else:
            token_becomes(camera, "LOCKED")
            assert "[pin-refused-before]" in camera.status().token.why
        assert prepared.card.applet.pin.left == _TRIES - 1
        if number == 10:
            # Whoever mends the PIN need not restart anything.
            write_pin(tmp_path / "pin", prepared.card.pin_text)
            token_becomes(camera, "READY")
            assert prepared.card.applet.pin.left == _TRIES
        camera.stop()
