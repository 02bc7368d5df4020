"""A PIN sealed by the TPM as a systemd credential: opened there, and on no other machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tpm import swtpm
from support.tpm.swtpm import Tpm
from tokens.bench import SoftToken
from tokens.test_cli import answer, token_command


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Tpm]:
    """Its TPM, which systemd-creds(1) finds through the same TSS as programs do."""
    with swtpm.running(tmp_path) as running:
        yield running


def device(tpm: Tpm) -> str:
    return f"--tpm2-device={tpm.tcti}"


def opened(tpm: Tpm, sealed: Path) -> subprocess.CompletedProcess[str]:
    """As the service does before it starts the daemon."""
    return subprocess.run(
        ["systemd-creds", "decrypt", device(tpm), sealed, "-"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.property("P2")
@pytest.mark.fault("a credential of another machine's TPM", backend="softhsm")
def test_a_pin_sealed_by_this_machines_tpm(token: SoftToken, machine: Tpm, tmp_path: Path) -> None:
    config, sealed = tmp_path / "dongled.toml", tmp_path / "dongled.token-pin"
    login = ("--module", token.module, "--uri", token.uri, "--pin-file", str(token.directory / "pin"))
    keys = answer("show", *login)["keys"]
    config.write_text(
        f'[token]\nmodule = "{token.module}"\nuri = "{token.uri}"\npin-credential = "token-pin"\n'
        + "".join(
            f'[token.{role}]\nid = "{key["id"]}"\nsha256 = "{key["sha256"]}"\n' for role, key in keys.items()
        )
        + f'[state]\ndirectory = "{tmp_path / "state"}"\n'
    )
    token.wrong_pin()

    def seal(pin: str) -> subprocess.CompletedProcess[str]:
        return token_command(
            "unlock", "credential", "--config", str(config), "--with-key", "tpm2", device(machine),
            "--pin-file", str(token.directory / pin), "--output", str(sealed),
        )  # fmt: skip

    wrong = seal("wrong")
    assert "[pin-wrong]" in wrong.stderr
    assert not sealed.exists()
    done = seal("pin")
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr, wrong.stdout, wrong.stderr, sealed.read_text()):
        assert token.pin_text not in text
    assert opened(machine, sealed).stdout == token.pin_text

    (tmp_path / "other").mkdir()
    with swtpm.running(tmp_path / "other") as other:
        elsewhere = opened(other, sealed)
    assert elsewhere.returncode != 0
    assert elsewhere.stdout == ""
    machine.stop()
    assert opened(machine, sealed).returncode != 0
    machine.start()
    assert opened(machine, sealed).stdout == token.pin_text
