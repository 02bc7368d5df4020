"""The private network: what is in it, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dongled.agent.demo import namespace
from support import netns

NESTED = [sys.executable, "-m", "dongled.agent.demo.namespace"]


def test_the_suite_runs_inside() -> None:
    assert namespace.inside()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((netns.ADDRESS, 0))


def test_no_other_host_can_be_reached() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="unreachable"),
    ):
        sock.connect(("198.51.100.1", 9))


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -KILL $$", 137), ("true", 0)])
def test_the_command_s_status_is_the_supervisor_s(script: str, status: int) -> None:
    assert subprocess.run([*NESTED, "sh", "-c", script], check=False).returncode == status


def test_each_namespace_has_processes_and_ports_of_its_own() -> None:
    with socket.create_server((netns.ADDRESS, 0)) as server:
        port = server.getsockname()[1]
        script = f"import os, socket; socket.create_server(({netns.ADDRESS!r}, {port})); print(os.getppid())"
        out = subprocess.run(
            [*NESTED, sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
    assert out == "1\n"


def test_a_missing_command_is_said_in_one_line() -> None:
    done = subprocess.run([*NESTED, "/nonexistent"], check=False, capture_output=True, text=True)
    assert done.returncode == os.EX_OSERR
    assert "/nonexistent" in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def supervised(script: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A supervisor whose command runs ``script`` and holds a pipe; its reading end, at EOF when all died."""
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [*NESTED, "sh", "-c", script], pass_fds=[theirs], stdout=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def everything_died(pipe: int) -> bool:
    """Whether every process that had the pipe ends within 10 s."""
    return bool(select.select([pipe], [], [], 10)[0])


# A grandchild in a session of its own, deaf to what a terminal sends.
STUBBORN = "trap '' INT TERM HUP; setsid sleep 1000 & "


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_and_the_rest_dies_with_it(number: signal.Signals) -> None:
    answer = f"trap 'exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with supervised(STUBBORN + answer) as (process, pipe):
        process.send_signal(number)
        assert process.wait(60) == 9
        assert everything_died(pipe)


def test_killing_the_supervisor_kills_everything() -> None:
    with supervised(STUBBORN + "echo ready; sleep 1000") as (process, pipe):
        process.kill()
        assert everything_died(pipe)
