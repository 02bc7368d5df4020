"""A TPM as a token: what its PKCS#11 module has to be told, and what tpm2-tools does to it from outside."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dongled.tokens.pin import PinFile
from support.tpm.swtpm import Tpm
from tokens.bench import new_pin, write_pin

# Debian 12 and 13 differ.
(MODULE,) = map(str, Path("/usr/lib").glob("*-linux-gnu/**/libtpm2_pkcs11.so.1"))
URI = "pkcs11:manufacturer=IBM;serial=0000000000000000;token=tpm"
SIGN = 0x15D


@dataclass(frozen=True)
class TpmToken:
    """``env`` is what a program needs to use it. Each has the same serial number, whatever the TPM."""

    tpm: Tpm
    directory: Path
    env: dict[str, str]
    pin_text: str
    so_pin_text: str

    @property
    def pin(self) -> PinFile:
        return PinFile(self.directory / "pin")

    @property
    def so_pin(self) -> PinFile:
        return PinFile(self.directory / "so")

    def tool(self, *command: str) -> None:
        """Run one of tpm2-tools."""
        subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, timeout=30, check=True)


def tpm_token(tpm: Tpm, directory: Path) -> TpmToken:
    """A TPM that nobody has made a token of."""
    store = directory / "store"
    store.mkdir(parents=True)
    env = {
        "TPM2_PKCS11_STORE": str(store),
        "TPM2_PKCS11_TCTI": tpm.tcti,
        "TPM2TOOLS_TCTI": tpm.tcti,
        # What it logs is no part of a test.
        "TPM2_PKCS11_LOG_LEVEL": "0",
        "TSS2_LOG": "all+NONE",
    }
    pin, so_pin = new_pin(), new_pin()
    write_pin(directory / "pin", pin)
    write_pin(directory / "so", so_pin)
    return TpmToken(tpm, directory, env, pin, so_pin)
