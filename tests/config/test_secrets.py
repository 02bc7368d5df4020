"""What is taken for a secret, and what is not."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from dongled.config.api import ConfigError, Credential, read_secret


def private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"1234", "1234"),
        (b"1234\n", "1234"),
        (b"1234\n\n", "1234\n"),
        (b" 12 ", " 12 "),
        ("gelée\n".encode(), "gelée"),
    ],
)
def test_one_trailing_newline_goes_and_nothing_else(content: bytes, secret: str, tmp_path: Path) -> None:
    assert read_secret(private(tmp_path / "pin", content)) == secret


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "secret-malformed"),
        (b"\n", "secret-malformed"),
        (b"12\x0034", "secret-malformed"),
        (b"\xff\xfe", "secret-malformed"),
        (b"1" * 4097, "secret-too-long"),
    ],
)
def test_what_cannot_be_a_secret_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_secret(private(tmp_path / "pin", content))
    assert (raised.value.reason, raised.value.exit_code) == (reason, 78)
    assert raised.value.__cause__ is None


def test_a_refused_secret_is_not_in_the_error(tmp_path: Path) -> None:
    secret = secrets.token_hex(8)
    path = private(tmp_path / "pin", secret.encode() + b"\xff")
    with pytest.raises(ConfigError) as raised:
        read_secret(path)
    assert secret not in f"{raised.value}{raised.value.hint}{raised.value!r}"
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_file_open_to_others_is_refused(mode: int, tmp_path: Path) -> None:
    path = private(tmp_path / "pin", b"1234")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}") as raised:
        read_secret(path)
    assert raised.value.reason == "secret-exposed"
    assert "chmod 600" in raised.value.hint
    assert "1234" not in str(raised.value)


def test_only_regular_files_are_read_and_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path, reason in [
        (tmp_path / "fifo", "secret-exposed"),
        (tmp_path, "secret-exposed"),
        (tmp_path / "absent", "secret-unreadable"),
    ]:
        with pytest.raises(ConfigError) as raised:
            read_secret(path)
        assert raised.value.reason == reason


def test_a_credential_comes_from_systemds_directory(tmp_path: Path) -> None:
    path = private(tmp_path / "pin", b"1234\n")
    path.chmod(0o440)  # as systemd's look, with its access control list in the group's bits
    assert read_secret(Credential("pin"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "1234"
    with pytest.raises(ConfigError) as raised:
        read_secret(Credential("other"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert raised.value.reason == "secret-unreadable"
    with pytest.raises(ConfigError) as raised:
        read_secret(Credential("pin"), {})
    assert raised.value.reason == "no-credentials"
    assert "LoadCredential=pin" in raised.value.hint
