"""The archive that ``dongled bugreport`` writes, with every kind of secret that settings know around it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dongled.agent.control.interface import ControlInterface
from dongled.agent.control.server import ControlServer
from dongled.agent.demo.commands import PROGRAM
from dongled.agent.status import DaemonStatus
from dongled.config.api import Settings, secret_sources
from dongled.config.base import Input
from dongled.config.load import inner_model
from support.controlled import ControlledDouble
from support.statuses import well
from tokens.bench import write_pin

FILES = """
[terminal]
name = "door-camera"
[token]
module = "module.so"
uri = "pkcs11:token=a;serial=1"
PIN
[token.identity]
id = "01"
sha256 = "{zero}"
[token.data]
id = "02"
sha256 = "{zero}"
[data-token]
module = "module.so"
uri = "pkcs11:token=b;serial=2"
PIN
[trust]
roots = ["root.pem"]
[state]
directory = "state"
[control]
socket = "control.sock"
[authorizer]
kind = "program"
url = "https://authorizer.example.com"
ca-file = "root.pem"
tls-certificate = "root.pem"
tls-key = "authorizer.key"
BEARER
[enrolment]
url = "https://est.example.com"
ca-file = "root.pem"
tls-certificate = "root.pem"
tls-key = "enrolment.key"
officer-file = "officer"
data-officer-file = "data-officer"
PASSWORD
[[ice.turn]]
url = "turn:turn.example.com:3478"
username = "terminal"
PASSWORD
[[meeting]]
name = "lobby"
room = "lobby"
publish = []
ROOM
[meeting.sfu]
url = "ws://127.0.0.1:1"
JANUS
API
""".replace("{zero}", "0" * 64)

# Each secret as a file, and as a credential of systemd.
KINDS = {
    "PIN": ("pin-file", "pin-credential", "token-pin"),
    "BEARER": ("bearer-file", "bearer-credential", "authorizer-token"),
    "PASSWORD": ("password-file", "password-credential", "password"),
    "ROOM": ("room-pin-file", "room-pin-credential", "room-pin"),
    "JANUS": ("token-file", "token-credential", "janus-token"),
    "API": ("api-secret-file", "api-secret-credential", "janus-api-secret"),
}
ALWAYS_FILES = ("authorizer.key", "enrolment.key", "officer", "data-officer")


@dataclass(frozen=True)
class Place:
    folder: Path
    values: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def config(self) -> Path:
        return self.folder / "dongled.toml"


def spellings(value: str) -> list[str]:
    raw = value.encode()
    return [value, raw.hex(), base64.b64encode(raw).decode()]


def hidden(value: str) -> str:
    """In the middle of something longer, as HTTP Basic has it."""
    return base64.b64encode(b"x:" + value.encode() + b".").decode()


@pytest.fixture(params=["files", "credentials"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    by_file = request.param == "files"
    (tmp_path / "credentials").mkdir()
    text, values = FILES, []
    for key, (file, credential, name) in KINDS.items():
        # A PIN as people choose it, and tokens as programs do.
        value = (
            str(1_000_000 + secrets.randbelow(9_000_000)) if key in ("PIN", "ROOM") else secrets.token_hex(12)
        )
        values.append(value)
        write_pin(tmp_path / name if by_file else tmp_path / "credentials" / name, value)
        text = text.replace(f"\n{key}\n", f'\n{file if by_file else credential} = "{name}"\n')
    for name in ALWAYS_FILES:
        values.append(secrets.token_urlsafe(24))
        write_pin(tmp_path / name, values[-1])
    for name in ("root.pem", "module.so"):
        (tmp_path / name).touch()
    (tmp_path / "dongled.toml").write_text(text)
    # What has to be searched, as the system's programs would give it.
    spelt = [each for value in values for each in (*spellings(value), hidden(value))]
    leaks = "\n".join(f"dongled[1]: said: {each}" for each in spelt)
    (tmp_path / "leaks").write_text(f"joined the room\n{leaks}\n")
    for program in ("journalctl", "systemctl"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho "{program} $*"\ncat {tmp_path}/leaks\n')
        (tmp_path / program).chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
    }
    return Place(tmp_path, tuple(values), env)


class Leaking(ControlledDouble):
    """Says secrets where others' words may stand."""

    def __init__(self, values: tuple[str, ...]) -> None:
        self._values = values

    def status(self) -> DaemonStatus:
        status = well()
        status.pid = os.getpid()
        status.meetings[0].why = " ".join(self._values)
        status.meetings[0].events = [each for value in self._values for each in spellings(value)]
        status.meetings[0].refused = {self._values[0]: 1}
        return status


async def report(place: Place, *arguments: str) -> tuple[int, str, str]:
    command = ["bugreport", "--config", str(place.config), "--output", str(place.folder / "out.tar.gz")]
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *command, *arguments, env=place.env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def contents(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as opened:
        files = {member.name: opened.extractfile(member) for member in opened.getmembers()}
        return {name.partition("/")[2]: file.read().decode() for name, file in files.items() if file}


async def test_no_secret_of_any_kind_is_in_it(place: Place) -> None:
    server = ControlServer(place.folder / "control.sock", ControlInterface(Leaking(place.values)))
    await server.start()
    try:
        code, out, err = await report(place)
    finally:
        await server.close()
    archive = place.folder / "out.tar.gz"
    assert (code, out.strip()) == (0, str(archive)), err
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    found = contents(archive)
    assert set(found) == {
        "MANIFEST", "versions.json", "settings.json", "doctor.json", "status.json", "process.txt",
        "journal.txt", "unit.txt",
    }  # fmt: skip
    everything = "\n".join([*found.values(), out, err])
    for value in place.values:
        for spelt in spellings(value):
            # Seven digits may be part of a larger number by chance.
            assert not re.search(rf"(?<!\d){re.escape(spelt)}(?!\d)", everything)
        # Of a PIN that is too little to be told from anything else.
        assert len(value) < 8 or hidden(value)[4:-4] not in everything
    # And still there is something to find a fault by.
    assert "joined the room" in found["journal.txt"]
    assert "journalctl --unit=dongled.service" in found["journal.txt"]
    assert json.loads(found["status.json"])["meetings"][0]["name"] == "lobby"
    assert any(check["id"] == "sfu" for check in json.loads(found["doctor.json"])["checks"])
    assert "wss" not in found["settings.json"]
    assert "authorizer.example.com" in found["settings.json"]
    assert "token.pin-" in found["MANIFEST"]


@pytest.mark.parametrize("place", ["files"], indirect=True)
async def test_where_a_secret_cannot_be_read_the_log_is_left_out(place: Place) -> None:
    text = place.config.read_text().replace('room-pin-file = "room-pin"', 'room-pin-credential = "nowhere"')
    place.config.write_text(text)
    code, _, err = await report(place)
    found = contents(place.folder / "out.tar.gz")
    assert code == 0
    assert not {"journal.txt", "unit.txt"} & set(found)
    assert "meeting.0.room-pin-credential" in found["MANIFEST"]
    assert "journal.txt: it cannot be searched" in err
    # What is there stays as it is.
    code, _, err = await report(place)
    assert code == 1
    assert "[file-exists]" in err


def secret_keys(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Of the schema: every key that names where a secret is."""
    for name, field in model.model_fields.items():
        key = f"{at}.{field.alias or name}".lstrip(".")
        inner = inner_model(field)
        if inner is not None:
            yield from secret_keys(inner, key)
        elif name.endswith("_credential") or any(isinstance(m, Input) and m.secret for m in field.metadata):
            yield key


def test_every_kind_of_secret_is_known_and_was_tried_above() -> None:
    tried: set[str] = set()
    for by_file in (True, False):
        text = FILES
        for key, (file, credential, name) in KINDS.items():
            text = text.replace(f"\n{key}\n", f'\n{file if by_file else credential} = "{name}"\n')
        tried |= {_plain(key) for key, _ in secret_sources(settings(text))}
    assert tried == set(secret_keys(Settings))


def settings(text: str) -> Settings:
    import tomllib

    tree: dict[str, Any] = tomllib.loads(text)
    return Settings.model_validate_json(json.dumps(tree), by_alias=True, by_name=False)


def _plain(key: str) -> str:
    """Without the places of elements in lists."""
    return ".".join(part for part in key.split(".") if not part.isdigit())
