"""Terminals whose keys are on a virtual PIV card, prepared by the command line as a user would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dongled.agent.demo.commands import PROGRAM, dongled
from dongled.agent.demo.provision import Authority, Cast
from dongled.tokens.softhsm import find_module
from support.card import bench, piv_management
from support.card.bench import OPENSC, YKCS11, PivCard
from support.card.pcscd import SOCKET_VARIABLE, Pcscd
from tokens.bench import new_pin, write_pin


@dataclass(frozen=True)
class CardTerminal:
    """``cast`` is for ``module``; ``changes`` makes the demo's configuration one for it."""

    card: PivCard
    cast: Cast
    module: str
    uris: Mapping[str, str]

    @property
    def changes(self) -> Mapping[str, str]:
        return {f'module = "{find_module()}"': f'module = "{self.module}"'}

    def by(self, module: str) -> CardTerminal:
        """The same card through another module, which names it otherwise."""
        return replace(self, module=module, cast=replace(self.cast, uri=self.uris[module]))


def make_card_terminal(
    directory: Path, name: str, role: str, authority: Authority, daemon: Pcscd, *, serial: int = 0x00C0FFEE
) -> CardTerminal:
    """A card in the reader with both keys and certificates; its PIN is in ``directory/name/pin``."""
    folder = directory / name
    folder.mkdir(mode=0o700)
    card = bench.piv_card(daemon, new_pin(), new_pin(), serial=serial)
    bench.name(card)
    card.insert()
    pin, officer = write_pin(folder / "pin", card.pin_text), folder / "management-key"
    write_pin(officer, piv_management.DEFAULT.hex())
    env = {SOCKET_VARIABLE: str(daemon.path)}
    uri = _uri(YKCS11, env)
    login: list[str | Path] = ["--module", YKCS11, "--uri", uri, "--pin-file", pin]
    keys: dict[str, Mapping[str, Any]] = {}
    urn = ""
    identity = folder / "identity.pem"
    kinds: dict[str, list[str | Path]] = {"identity": ["--role", role], "data": ["--identity", identity]}
    for key, whose in kinds.items():
        keys[key] = dongled("token", "keygen", "--role", key, *login, "--so-pin-file", officer, env=env)
        request, certificate = folder / f"{key}.csr", folder / f"{key}.pem"
        subject = ["--subject", f"CN={name}"]
        dongled("token", "csr", "--role", key, *login, *subject, "--output", request, env=env)
        issued = dongled(
            "ca", "issue", *authority.options, "--kind", key, *whose, "--assurance", "software",
            "--csr", request, "--output", certificate, env=authority.env,
        )  # fmt: skip
        dongled("token", "import-cert", "--role", key, *login, "--so-pin-file", officer, certificate, env=env)
        urn = str(issued["terminal"])
    uris = {module: _uri(module, env) for module in (OPENSC, YKCS11)}
    return CardTerminal(card, Cast(name, folder, env, uri, urn, keys), YKCS11, uris)


def _uri(module: str, env: Mapping[str, str]) -> str:
    listed = subprocess.run(
        [PROGRAM, "token", "list", "--module", module, "--json"],
        env={**env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (token,) = json.loads(listed.stdout)
    return str(token["uri"])


__all__ = ["OPENSC", "YKCS11", "CardTerminal", "make_card_terminal"]
