"""A real meeting: terminals on SoftHSM tokens, provisioned and run by the command line, and a real Janus."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dongled.agent.demo.provision import Authority, Cast, make_authority, make_terminal
from integration.running import Running
from support.janus import JanusServer


@dataclass
class Company:
    """Terminals that one authority certified; made once, since it takes seconds."""

    authority: Authority
    camera: Cast
    viewer: Cast
    directory: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)
    others: dict[str, Cast] = field(default_factory=dict)

    def cast(self, name: str) -> Cast:
        """The camera, the viewer, or another viewer; called ``moderator`` it has that role alone."""
        known = {"camera": self.camera, "viewer": self.viewer} | self.others
        if name not in known:
            role = "moderator" if name == "moderator" else "viewer"
            self.others[name] = known[name] = make_terminal(self.directory, name, role, self.authority)
        return known[name]


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    directory = tmp_path_factory.mktemp("company")
    authority = make_authority(directory)
    return Company(
        authority,
        make_terminal(directory, "camera", "publisher", authority),
        make_terminal(directory, "viewer", "viewer", authority),
        directory,
    )


@pytest.fixture(scope="module")
def janus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JanusServer]:
    """One for the tests that leave it as it was; each has a room of its own there."""
    with JanusServer(tmp_path_factory.mktemp("sfu") / "janus") as server:
        yield server


Launch = Callable[..., Running]
NOTHING: Mapping[str, str] = {}


@pytest.fixture
def launch(company: Company, janus: JanusServer, tmp_path: Path) -> Iterator[Launch]:
    """Starts ``dongled run`` for the camera and ``dongled view`` for the viewer, in a room of this test's."""
    room = f"room-{next(company.numbers)}"
    with contextlib.ExitStack() as stack:

        def start(name: str, folder: str | None = None, changes: Mapping[str, str] = NOTHING) -> Running:
            running = Running.start(company, janus.url, room, name, tmp_path / (folder or name), changes)
            stack.callback(running.stop)
            return running

        yield start
