"""How a PIN's credential is kept, as systemd's own program sealed it."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from dongled.agent.doctor.api import Finding, Level
from dongled.agent.doctor.token.stored import judge

# In a /var/lib/systemd that ends with it, for the key of the host.
SEAL = """
    set -e
    mount -t tmpfs none /var/lib/systemd
    mount --bind "$2" /etc/machine-id
    printf 314159 | systemd-creds encrypt --with-key=host --name=dongled.token-pin - "$1" 2>/dev/null
"""


def sealed_by_host(path: Path) -> None:
    machine = path.with_name("machine-id")
    machine.write_text("0123456789abcdef0123456789abcdef\n")
    subprocess.run(["unshare", "-m", "sh", "-c", SEAL, "sh", path, machine], check=True)
    machine.unlink()


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    clear, sealed = tmp_path / "credstore", tmp_path / "credstore.encrypted"
    clear.mkdir()
    sealed.mkdir()
    return clear, sealed


def one(stores: tuple[Path, Path]) -> Finding:
    (finding,) = judge("token-pin", *stores)
    return finding


def test_without_a_tpm_it_is_weak(stores: tuple[Path, Path]) -> None:
    sealed_by_host(stores[1] / "dongled.token-pin")
    finding = one(stores)
    assert (finding.level, finding.text.startswith("weak")) == (Level.WARNING, True)
    assert "TPM" in finding.hint


def test_in_clear_text_it_is_weak_and_missing_it_fails(stores: tuple[Path, Path]) -> None:
    missing = one(stores)
    assert (missing.level, "dongled token unlock credential" in missing.hint) == (Level.FAILED, True)
    (stores[0] / "dongled.lab.token-pin").write_text("314159")
    (stores[0] / "dongled.room-pin").write_text("271828")
    finding = one(stores)
    assert finding.level is Level.WARNING
    assert "dongled.lab.token-pin holds it in clear text" in finding.text
    assert "314159" not in str(finding)


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        # SD_ID128_MAKE in systemd's src/shared/creds-util.h: by TPM; by host and TPM; by nothing at all.
        ("0c7cc07b117645919c4b0bea08bc20fe", Level.OK),
        ("93a894094874449090caf2fc93cab553", Level.OK),
        ("058469daf6f54324800549da0f8ea2fb", Level.WARNING),
        ("ffffffffffffffffffffffffffffffff", Level.WARNING),
    ],
)
def test_what_is_not_known_to_need_the_tpm_counts_as_weak(
    kind: str, level: Level, stores: tuple[Path, Path]
) -> None:
    text = base64.b64encode(bytes.fromhex(kind) + bytes(100))
    (stores[1] / "dongled.token-pin").write_bytes(text)
    assert one(stores).level is level


def test_what_is_no_credential(stores: tuple[Path, Path]) -> None:
    (stores[1] / "dongled.token-pin").write_text("é" * 40)
    assert one(stores).level is Level.FAILED
