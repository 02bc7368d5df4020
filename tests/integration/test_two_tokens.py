"""A terminal with two tokens in a real meeting: a TPM that only signs, and two cards that change places."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dongled.agent.demo.commands import PROGRAM, dongled
from dongled.tokens import softhsm
from integration.conftest import Company
from integration.running import Running, opened, sending
from integration.split_terminal import Holder, SplitTerminal, listed, make_split_terminal
from support.card import bench, pcscd, piv_management
from support.card.bench import YKCS11, PivCard
from support.card.vpcd import InsertedCard
from support.janus import JanusServer
from support.tpm import swtpm
from support.tpm.bench import MODULE as TPM
from support.tpm.bench import URI, tpm_token
from tokens.bench import new_pin, write_pin

pytestmark = pytest.mark.timeout(300)

Start = Callable[..., tuple[Running, Running]]


@pytest.fixture
def start(company: Company, janus: JanusServer, tmp_path: Path) -> Iterator[Start]:
    """Starts the camera and the viewer, one of them with two tokens."""
    room = f"room-{next(company.numbers)}"
    with contextlib.ExitStack() as stack:

        def run(
            camera: SplitTerminal | None = None, viewer: SplitTerminal | None = None
        ) -> tuple[Running, Running]:
            who = replace(
                company,
                camera=camera.cast if camera else company.camera,
                viewer=viewer.cast if viewer else company.viewer,
            )
            both = []
            for name, split in (("camera", camera), ("viewer", viewer)):
                changes = split.changes if split else {}
                both.append(Running.start(who, janus.url, room, name, tmp_path / f"run-{name}", changes))
                stack.callback(both[-1].stop)
            return both[0], both[1]

        yield run


def parts(running: Running) -> dict[str, str]:
    return {part.key: part.state for part in running.status().token.parts}


def becomes(running: Running, role: str, state: str) -> None:
    running.until(lambda _: parts(running)[role] == state)


@pytest.mark.fault("TPM restarted, locked out and cleared in mid-meeting", backend="tpm2")
def test_a_tpm_signs_and_softhsm_agrees(company: Company, start: Start, tmp_path: Path) -> None:
    """From blank tokens to a picture, by ``dongled token`` alone: the viewer's derivations are SoftHSM's."""
    with swtpm.running(tmp_path) as tpm:
        made = tpm_token(tpm, tmp_path / "viewer")
        folder = made.directory
        env = {**made.env, **softhsm.configure(folder)}
        dongled(
            "token", "init", "--module", TPM, "--label", "tpm",
            "--pin-file", folder / "pin", "--so-pin-file", folder / "so", env=env,
        )  # fmt: skip
        other = write_pin(folder / "other-pin", new_pin())
        soft = softhsm.find_module()
        made_soft = dongled(
            "token", "init", "--module", soft, "--label", "data",
            "--pin-file", other, "--so-pin-file", folder / "so", env=env,
        )  # fmt: skip
        split = make_split_terminal(
            folder, "viewer", "viewer", company.authority, env,
            Holder(TPM, URI, folder / "pin"), Holder(soft, str(made_soft["uri"]), other),
        )  # fmt: skip
        _, viewer = start(viewer=split)
        viewer.until(lambda meeting: opened(meeting) > 10)
        status = viewer.status().token
        assert status.state == "READY"
        assert parts(viewer) == {"identity": "READY", "data": "READY"}
        assert len({part.uri for part in status.parts}) == 2
        assert status.sign >= 1
        assert status.derive >= 1
        # Each has its own worker.
        assert len(viewer.children()) == 2

        tpm.stop()
        tpm.start()
        session = viewer.status().meetings[0].session
        viewer.until(lambda _: viewer.status().token.sign > status.sign + 1)
        assert viewer.status().meetings[0].session == session
        seen = opened(viewer.status().meetings[0])
        viewer.until(lambda meeting: opened(meeting) > seen + 10)

        wrong = write_pin(folder / "wrong", new_pin())
        for _ in range(4):
            show: list[str] = [
                str(PROGRAM),
                "token",
                "show",
                "--module",
                TPM,
                "--uri",
                URI,
                "--pin-file",
                str(wrong),
            ]
            assert subprocess.run(show, env=env, capture_output=True, check=False).returncode != 0
        becomes(viewer, "identity", "PIN_BLOCKED")
        assert parts(viewer)["data"] == "READY"
        made.tool("tpm2_dictionarylockout", "--clear-lockout")
        viewer.until(lambda meeting: meeting.session not in ("", session) and opened(meeting) > 10)


@pytest.fixture
def cards(tmp_path: Path) -> Iterator[tuple[PivCard, PivCard]]:
    """Two blank cards in a reader of two slots."""
    with pcscd.running(tmp_path) as daemon:
        pair = [
            bench.piv_card(daemon, new_pin(), new_pin(), slot=slot, serial=0x00C0FFEE + slot)
            for slot in (0, 1)
        ]
        for card in pair:
            bench.name(card)
            card.insert()
        yield pair[0], pair[1]
        for card in pair:
            card.inserted.pull()


def in_slot(card: PivCard, slot: int) -> PivCard:
    """The same card for another slot of the reader."""
    return replace(card, slot=slot, inserted=InsertedCard(card.inserted.card, card.daemon.port + slot))


@pytest.mark.fault("either of two cards pulled, readers swapped")
def test_two_cards(company: Company, start: Start, cards: tuple[PivCard, PivCard], tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir(mode=0o700)
    env = {pcscd.SOCKET_VARIABLE: str(cards[0].daemon.path)}
    officer = write_pin(folder / "management-key", piv_management.DEFAULT.hex())
    identity, data = (
        Holder(YKCS11, uri, write_pin(folder / f"pin-{slot}", card.pin_text), officer)
        for slot, (uri, card) in enumerate(zip(sorted(listed(YKCS11, env)), cards, strict=True))
    )
    split = make_split_terminal(folder, "camera", "publisher", company.authority, env, identity, data)
    camera, viewer = start(camera=split)
    for slot, role in enumerate(("identity", "data")):
        viewer.until(lambda meeting: opened(meeting) > 10)
        assert parts(camera) == {"identity": "READY", "data": "READY"}
        cards[slot].inserted.pull()
        camera.until(lambda meeting: sending(meeting).generation is None)
        viewer.until(lambda meeting: not meeting.peers)
        becomes(camera, role, "ABSENT")
        assert camera.status().token.state == "ABSENT"
        assert f"the {role} key's token" in camera.status().token.why
        cards[slot].insert()
    viewer.until(lambda meeting: opened(meeting) > 10)
    for card in cards:
        card.inserted.pull()
    camera.until(lambda _: set(parts(camera).values()) == {"ABSENT"})
    swapped = [in_slot(cards[0], 1), in_slot(cards[1], 0)]
    try:
        for card in swapped:
            card.insert()
        viewer.until(lambda meeting: opened(meeting) > 10)
        assert parts(camera) == {"identity": "READY", "data": "READY"}
    finally:
        for card in swapped:
            card.inserted.pull()
