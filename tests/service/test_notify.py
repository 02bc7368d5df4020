"""What the service manager is told, over a real datagram socket."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dongled.agent.notify import Notifier
from service.manager import Manager, manager


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Manager]:
    with manager(tmp_path) as made:
        yield made


def test_assignments_arrive_in_one_datagram(systemd: Manager) -> None:
    Notifier(systemd.environment()).tell(READY="1", STATUS="lobby: joined")
    assert systemd.hear() == {"READY": "1", "STATUS": "lobby: joined"}


def test_an_abstract_address_is_understood() -> None:
    made = Manager(f"@dongled-test-{secrets.token_hex(8)}")
    Notifier(made.environment()).tell(READY="1")
    assert made.hear() == {"READY": "1"}
    made.close()


def test_what_an_sfu_says_becomes_no_assignment(systemd: Manager) -> None:
    Notifier(systemd.environment()).tell(STATUS="lost: x\nMAINPID=1\r\nWATCHDOG=1")
    assert systemd.hear() == {"STATUS": "lost: x MAINPID=1 WATCHDOG=1"}


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    assert not Notifier({})
    Notifier({}).tell(READY="1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell(READY="1")


def test_without_a_free_descriptor_nothing_happens(systemd: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_free(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    notifier = Notifier(systemd.environment())
    monkeypatch.setattr(socket, "socket", none_free)
    notifier.tell(WATCHDOG="1")


def test_a_service_manager_that_reads_nothing_holds_nobody_up(systemd: Manager) -> None:
    notifier = Notifier(systemd.environment())
    done = threading.Event()

    def flood() -> None:
        for _ in range(10_000):
            notifier.tell(STATUS="x")
        done.set()

    threading.Thread(target=flood, daemon=True).start()
    assert done.wait(30)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_ours_or_nobodys(environ: dict[str, str], seconds: float) -> None:
    assert Notifier(environ).watchdog == seconds
