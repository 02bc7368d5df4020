"""Makes the demo's cast: a certificate authority, a camera and a viewer, each with a token of its own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dongled.agent.demo.commands import dongled
from dongled.tokens.softhsm import configure, find_module

SIZE = (1280, 720)
FPS = 30
BITRATE = 2_000_000


@dataclass(frozen=True, slots=True)
class Cast:
    """A terminal of the demo: its folder, its token's URI and keys, its environment and its name."""

    name: str
    folder: Path
    env: Mapping[str, str]
    uri: str
    urn: str
    keys: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its root certificate (PEM), and how to use its token."""

    root: Path
    options: list[str | Path]
    env: Mapping[str, str]


def _new_token(name: str, folder: Path) -> tuple[Mapping[str, str], str]:
    """A SoftHSM store with one token; returns its environment and its URI."""
    folder.mkdir(mode=0o700)
    env = configure(folder)
    for pin in ("pin", "so-pin"):
        path = folder / pin
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(8))
    made = dongled(
        "token", "init", "--module", find_module(), "--label", name,
        "--pin-file", folder / "pin", "--so-pin-file", folder / "so-pin", env=env,
    )  # fmt: skip
    return env, str(made["uri"])


def make_authority(directory: Path) -> Authority:
    """The lab CA, its key on a token too."""
    folder = directory / "ca"
    env, uri = _new_token("ca", folder)
    options: list[str | Path] = ["--module", find_module(), "--uri", uri, "--pin-file", folder / "pin"]
    root = directory / "root.pem"
    dongled("ca", "init", *options, "--subject", "CN=dongled demo CA", "--output", root, env=env)
    return Authority(root, options, env)


def make_terminal(directory: Path, name: str, role: str, authority: Authority) -> Cast:
    """Token, keys, requests, certificates: what an operator does for a new terminal."""
    folder = directory / name
    env, uri = _new_token(name, folder)
    token: list[str | Path] = ["--module", find_module(), "--uri", uri, "--pin-file", folder / "pin"]
    keys: dict[str, Mapping[str, Any]] = {}
    urn = ""
    identity = folder / "identity.pem"
    kinds: dict[str, list[str | Path]] = {"identity": ["--role", role], "data": ["--identity", identity]}
    for key, whose in kinds.items():
        keys[key] = dongled("token", "keygen", "--role", key, *token, env=env)
        request, certificate = folder / f"{key}.csr", folder / f"{key}.pem"
        subject = ["--subject", f"CN={name}"]
        dongled("token", "csr", "--role", key, *token, *subject, "--output", request, env=env)
        issued = dongled(
            "ca", "issue", *authority.options, "--kind", key, *whose, "--assurance", "software",
            "--csr", request, "--output", certificate, env=authority.env,
        )  # fmt: skip
        dongled("token", "import-cert", "--role", key, *token, certificate, env=env)
        urn = str(issued["terminal"])
    return Cast(name, folder, env, uri, urn, keys)


def settings_text(cast: Cast, root: Path, camera: str, viewer: str, url: str, encryption: str) -> str:
    """The terminal's configuration file, such as a user would write."""
    publishes = cast.name == "camera"
    return f"""\
[terminal]
name = "{cast.name}"

[token]
module = "{find_module()}"
uri = "{cast.uri}"
pin-file = "pin"

[token.identity]
id = "{cast.keys["identity"]["id"]}"
sha256 = "{cast.keys["identity"]["sha256"]}"

[token.data]
id = "{cast.keys["data"]["id"]}"
sha256 = "{cast.keys["data"]["sha256"]}"

[trust]
roots = ["{root}"]
minimum-assurance = "software"
allow-viewers = ["{viewer}"]
allow-publishers = ["{camera}"]
time-source = "system"
revocation = "off"

[state]
directory = "state"

[control]
socket = "control.sock"

[[stream]]
id = "camera"
source = "testsrc"
width = {SIZE[0]}
height = {SIZE[1]}
fps = {FPS}
bitrate = {BITRATE}

[[meeting]]
name = "demo"
encryption = "{encryption}"
room = "demo-{encryption}"
create = true
publish = {'["camera"]' if publishes else "[]"}
subscribe = "{"none" if publishes else "all"}"

[meeting.sfu]
url = "{url}"
"""
