"""A terminal with its identity on one token and its data key on another, prepared by the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dongled.agent.demo.commands import PROGRAM, dongled
from dongled.agent.demo.provision import Authority, Cast
from dongled.tokens.softhsm import find_module


@dataclass(frozen=True)
class Holder:
    """A blank or initialised token, its URI, and the files that hold its PINs."""

    module: str
    uri: str
    pin: Path
    officer: Path | None = None

    @property
    def login(self) -> list[str | Path]:
        return ["--module", self.module, "--uri", self.uri, "--pin-file", self.pin]

    @property
    def writing(self) -> list[str | Path]:
        return self.login if self.officer is None else [*self.login, "--so-pin-file", self.officer]


@dataclass(frozen=True)
class SplitTerminal:
    """``changes`` makes the demo's configuration one for it."""

    cast: Cast
    changes: Mapping[str, str]


def make_split_terminal(
    folder: Path,
    name: str,
    role: str,
    authority: Authority,
    env: Mapping[str, str],
    identity: Holder,
    data: Holder,
) -> SplitTerminal:
    """Keys, requests and certificates, each on its token."""
    keys: dict[str, Mapping[str, Any]] = {}
    urn = ""
    for key, holder in {"identity": identity, "data": data}.items():
        keys[key] = dongled("token", "keygen", "--role", key, *holder.writing, env=env)
        request, certificate = folder / f"{key}.csr", folder / f"{key}.pem"
        whose = ["--uuid", urn] if urn else []
        subject = ["--subject", f"CN={name}", *whose]
        dongled("token", "csr", "--role", key, *holder.login, *subject, "--output", request, env=env)
        kind = ["--identity", folder / "identity.pem"] if key == "data" else ["--role", role]
        issued = dongled(
            "ca", "issue", *authority.options, "--kind", key, *kind, "--assurance", "software",
            "--csr", request, "--output", certificate, env=authority.env,
        )  # fmt: skip
        dongled("token", "import-cert", "--role", key, *holder.writing, certificate, env=env)
        urn = str(issued["terminal"])
    cast = Cast(name, folder, env, identity.uri, urn, keys)
    second = f'[data-token]\nmodule = "{data.module}"\nuri = "{data.uri}"\npin-file = "{data.pin}"\n\n'
    return SplitTerminal(
        cast,
        {
            f'module = "{find_module()}"': f'module = "{identity.module}"',
            f'pin-file = "{folder / "pin"}"': f'pin-file = "{identity.pin}"',
            "[trust]\n": f"{second}[trust]\n",
        },
    )


def listed(module: str, env: Mapping[str, str]) -> list[str]:
    """The URIs of the initialised tokens."""
    done = subprocess.run(
        [PROGRAM, "token", "list", "--module", module, "--json"],
        env={**env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [str(token["uri"]) for token in json.loads(done.stdout) if token["initialized"]]
