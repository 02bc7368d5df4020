"""A SoftHSM of the test's own, with what a test does to it from outside."""

from __future__ import annotations

import os
import re
import secrets
import select
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dongled.tokens.pin import PinFile, PinPrompt

SPY = "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so"


@dataclass(frozen=True)
class SoftToken:
    """A provisioned token, its throw-away PINs and where they are."""

    module: str
    uri: str
    serial: str
    directory: Path
    pin_text: str
    so_pin_text: str

    @property
    def pin(self) -> PinFile:
        return PinFile(self.directory / "pin")

    def wrong_pin(self, name: str = "wrong") -> PinFile:
        return PinFile(write_pin(self.directory / name, "9" + self.pin_text))


def write_pin(path: Path, pin: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(pin + "\n")
    return path


def new_pin() -> str:
    return "".join(secrets.choice("0123456789") for _ in range(8))


def answering(pin: str) -> PinPrompt:
    return PinPrompt(lambda: pin)


def pkcs11_tool(token: SoftToken, *arguments: str, check: bool = True) -> str:
    """OpenSC's view of the token; it knows nothing of this project."""
    done = subprocess.run(
        ["pkcs11-tool", "--module", token.module, "--login", "--pin", token.pin_text, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def usage_seen_by_opensc(listing: str, label: str, kind: str) -> dict[str, str]:
    """The lines ``Usage``, ``Access`` and ``ID`` of one object in ``pkcs11-tool --list-objects``."""
    for block in re.split(r"\n(?=\S)", listing):
        if block.startswith(kind) and re.search(rf"label:\s+{label}\b", block):
            return dict(re.findall(r"^\s+(\w+):\s+(.*?)\s*$", block, re.MULTILINE))
    raise AssertionError(f"no {kind} {label!r} in:\n{listing}")


def point_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    """Wait until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([handle], [], [], seconds)
        return bool(ready)
    finally:
        with suppress(OSError):
            os.close(handle)
