"""A terminal with a SoftHSM token and its settings, for a certificate platform that it can ask."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from cryptography import x509

from dongled.agent.cli.main import main
from dongled.tokens import provision
from dongled.tokens.api import KeyRole
from dongled.tokens.pin import PinFile
from support.authority import der, pem
from support.est import USER, Platform


@dataclass(frozen=True)
class Token:
    module: str
    uri: str
    folder: Path


@dataclass(frozen=True)
class Site:
    folder: Path
    token: Token
    served: Platform

    @classmethod
    def make(cls, folder: Path, token: Token, served: Platform, code: str) -> Site:
        (folder / "root.pem").write_bytes(pem(served.root))
        secret = folder / "code"
        secret.touch(mode=0o600)
        secret.write_text(code + "\n")
        site = cls(folder, token, served)
        keys = asyncio.run(site.show())
        pins = "\n".join(
            f'[token.{role.value}]\nid = "{key.cka_id.hex()}"\nsha256 = "{key.sha256.hex()}"\n'
            for role, key in keys.items()
        )
        (folder / "dongled.toml").write_text(f"""\
[terminal]
name = "door"
[token]
module = "{token.module}"
uri = "{token.uri}"
pin-file = "pin"
{pins}
[trust]
roots = ["root.pem"]
time-source = "system"
[state]
directory = "state"
[enrolment]
url = "{served.url}"
ca-file = "est-ca.pem"
username = "{USER}"
password-file = "code"
label = "terminals"
""")
        return site

    async def show(self) -> dict[KeyRole, Any]:
        report = await provision.show(self.token.module, self.token.uri, PinFile(self.folder / "pin"))
        return dict(report.keys)

    def on_token(self, role: str) -> bytes | None:
        """The certificate that the token has for a key, by another process's eyes."""
        key = asyncio.run(self.show())[KeyRole(role)]
        certificate: bytes | None = key.certificate
        return certificate

    def run(self, *arguments: str) -> Result:
        command = ["enroll", "--config", str(self.folder / "dongled.toml"), *arguments]
        return CliRunner().invoke(main, command)

    def enroll(self, *arguments: str) -> dict[str, dict[str, Any]]:
        result = self.run("--json", *arguments)
        assert result.exit_code == 0, result.output
        return {entry["role"]: entry for entry in json.loads(result.stdout)}

    def change(self, old: str, new: str) -> None:
        path = self.folder / "dongled.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def issued(self, kind: str) -> x509.Certificate:
        """The newest that the platform issued."""
        return next(cert for (_, what), cert in self.served.issued.items() if what == kind)

    def issued_der(self, kind: str) -> bytes:
        return der(self.issued(kind))

    def wrong_code(self) -> str:
        wrong = secrets.token_urlsafe(12)
        (self.folder / "code").write_text(wrong)
        return wrong
