"""``dongled presence``, with keys in the hand."""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dongled.agent.cli.main import main
from dongled.tokens.errors import TokenError
from dongled.tokens.fido import keys, presence
from dongled.tokens.fido.registered import MOST_PEOPLE, encode, parse
from support.card.fido_authenticator import Authenticator
from support.card.fido_key import touching
from support.power import PowerCut, power
from tokens.fido.conftest import Desk

HERE = "urn:uuid:6a1d5c3e-7c0b-4f5e-9d53-0c1f8b7c2a11"
CHALLENGE = bytes(range(32))
Run = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "presence.json"


@pytest.fixture
def run(desk: Desk, file: Path) -> Run:
    def run(verb: str, *arguments: str) -> Result:
        """With somebody who touches the key that is in."""
        (there,) = [each for name, each in desk.keys.items() if name not in desk.away]
        with touching(there):
            return CliRunner().invoke(main, ["presence", verb, "--file", str(file), *arguments])

    return run


def test_who_is_registered_is_known_listed_and_removed(desk: Desk, run: Run, file: Path) -> None:
    done = run("register", "alice", "--terminal", HERE)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"alice's key counts at {HERE}\n"
    assert "touch the FIDO2 key" in done.stderr
    (alice,) = parse(file.read_bytes(), "x")
    given = presence.answer([alice.credential], CHALLENGE, desk.person(), verified=False)
    assert presence.verify(alice.public_key, CHALLENGE, given).count > alice.count

    assert "[fido-known]" in run("register", "again", "--terminal", HERE).stderr
    desk.away.add("one")
    desk.keys["two"] = Authenticator("1357")
    assert run("register", "bob", "--terminal", HERE).exit_code == 0
    assert run("list").stdout == f"alice  at {HERE}\nbob  at {HERE}\n"
    listed = json.loads(run("list", "--json").stdout)
    assert listed[0] == {"name": "alice", "terminal": HERE, "credential": alice.credential.hex()}
    assert run("remove", "alice").exit_code == 0
    assert [each.name for each in parse(file.read_bytes(), "x")] == ["bob"]
    assert "[presence-name]" in run("remove", "alice").stderr


def test_a_key_that_knows_its_user_is_asked_to(desk: Desk, run: Run, tmp_path: Path, file: Path) -> None:
    pin = tmp_path / "key-pin"
    pin.touch(0o600)
    pin.write_text("2468")
    done = run("register", "alice", "--terminal", HERE, "--verify", "--fido-pin-file", str(pin))
    assert done.exit_code == 0, done.output
    (alice,) = parse(file.read_bytes(), "x")
    given = presence.answer([alice.credential], CHALLENGE, desk.person("2468"), verified=True)
    assert presence.verify(alice.public_key, CHALLENGE, given).verified


@pytest.mark.parametrize(
    ("name", "terminal", "reason"),
    [("", HERE, "fido-name"), ("../x", HERE, "fido-name"), ("alice", "door", "presence-terminal")],
)
def test_what_is_not_registered_costs_no_touch_and_leaves_no_file(
    desk: Desk, run: Run, file: Path, name: str, terminal: str, reason: str
) -> None:
    done = run("register", name, "--terminal", terminal)
    assert done.exit_code != 0
    assert f"[{reason}]" in done.stderr
    assert not file.exists()
    assert not desk.keys["one"].credentials


def test_a_file_that_is_full_is_left_as_it_is(desk: Desk, run: Run, file: Path) -> None:
    """One key more, and no terminal would take it."""
    assert run("register", "alice", "--terminal", HERE).exit_code == 0
    (alice,) = parse(file.read_bytes(), "x")
    full = encode([replace(alice, credential=bytes([n, 1])) for n in range(MOST_PEOPLE)])
    file.write_text(full)
    assert "[presence-full]" in run("register", "bob", "--terminal", HERE).stderr
    assert file.read_text() == full
    assert len(parse(file.read_bytes(), "x")) == MOST_PEOPLE


def test_another_is_registered_meanwhile(
    desk: Desk, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("register", "alice", "--terminal", HERE).exit_code == 0
    of_alice = file.read_text()
    file.unlink()
    desk.away.add("one")
    desk.keys["two"] = Authenticator("1357")
    touched = keys.register

    def register(*arguments: Any, **options: Any) -> Any:
        made = touched(*arguments, **options)
        file.write_text(of_alice)
        return made

    monkeypatch.setattr(keys, "register", register)
    assert run("register", "bob", "--terminal", HERE).exit_code == 0
    assert [each.name for each in parse(file.read_bytes(), "x")] == ["alice", "bob"]


def test_a_damaged_file_is_left_as_it_is(run: Run, file: Path) -> None:
    file.write_text("{}")
    for verb, arguments in (("register", ["a", "--terminal", HERE]), ("list", []), ("remove", ["a"])):
        assert "[presence-file]" in run(verb, *arguments).stderr
    assert file.read_text() == "{}"


def test_the_power_fails_at_each_step_of_writing(run: Run, file: Path) -> None:
    assert run("register", "alice", "--terminal", HERE).exit_code == 0
    registered = file.read_bytes()
    seen = set()
    for cut in itertools.count(1):
        file.write_bytes(registered)
        with suppress(PowerCut), power(cut):
            assert run("remove", "alice").exit_code == 0
            break
        seen.add(len(parse(file.read_bytes(), "x")))
    assert seen == {0, 1}
    # What a cut left is in nobody's way.
    assert list(file.parent.iterdir()) == [file]


def test_who_may_read_the_file_still_may(run: Run, file: Path, tmp_path: Path) -> None:
    """The daemon's user, by its group, also through a link."""
    assert run("register", "alice", "--terminal", HERE).exit_code == 0
    os.chown(file, 1, 2)
    file.chmod(0o640)
    kept = tmp_path / "kept"
    kept.mkdir()
    kept /= file.name
    file.rename(kept)
    file.symlink_to(kept)
    mask = os.umask(0o077)
    try:
        assert run("remove", "alice").exit_code == 0
    finally:
        os.umask(mask)
    status = kept.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1, 2, 0o640)
    assert file.is_symlink()
    assert parse(file.read_bytes(), "x") == []


def test_what_unlocks_a_token_is_not_evidence(desk: Desk, run: Run, file: Path) -> None:
    made = keys.register(keys.UNLOCK_RP, "blue", desk.person(), verified=False)
    run("register", "alice", "--terminal", HERE)
    (alice,) = parse(file.read_bytes(), "x")
    assert alice.credential != made.credential
    for credential, rp in ((made.credential, keys.PRESENCE_RP), (alice.credential, keys.UNLOCK_RP)):
        with pytest.raises(TokenError) as refused:
            keys.assertion(rp, [credential], CHALLENGE, desk.person(), verified=False)
        assert refused.value.reason == "fido-unknown"
