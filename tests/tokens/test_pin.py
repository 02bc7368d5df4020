"""Where PINs come from, who may read them, and that they do not show."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from dongled.tokens.errors import TokenError
from dongled.tokens.pin import Pin, PinCredential, PinFile, PinPrompt
from tokens.bench import write_pin


def refused(reason: str) -> pytest.RaisesExc[TokenError]:
    return pytest.RaisesExc(TokenError, check=lambda error: error.reason == reason)


@pytest.mark.parametrize("content", ["73195", "73195\n", "73195\r\n"])
def test_a_file_is_one_line(tmp_path: Path, content: str) -> None:
    path = write_pin(tmp_path / "pin", "")
    path.write_bytes(content.encode())
    assert PinFile(path).read().reveal() == "73195"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "pin-empty"),
        (b"\n", "pin-empty"),
        (b"73195\n73195\n", "pin-malformed"),
        (b"731\x0095", "pin-malformed"),
        (b"7" * 256, "pin-malformed"),
        (b"7" * 100_000, "pin-malformed"),
        (b"\xff\xfe", "pin-malformed"),
    ],
)
def test_what_is_no_pin_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = write_pin(tmp_path / "pin", "")
    path.write_bytes(content)
    with refused(reason) as refusal:
        PinFile(path).read()
    assert "73195" not in str(refusal.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o666])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_pin(tmp_path / "pin", "73195")
    path.chmod(mode)
    with refused("pin-file-exposed") as refusal:
        PinFile(path).read()
    assert f"{mode:04o}" in str(refusal.value)
    assert "chmod 600" in refusal.value.hint


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with refused("pin-file"):
        PinFile(tmp_path / "absent").read()
    with refused("pin-file"):
        PinFile(tmp_path / "absent").version()
    with refused("pin-file"):
        PinFile(tmp_path).read()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with refused("pin-file"):
        PinFile(tmp_path / "pipe").read()


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pin(tmp_path / "pin", "73195")
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with refused("pin-file-owner"):
        PinFile(path).read()


def test_a_file_that_changed_is_another_pin(tmp_path: Path) -> None:
    path = write_pin(tmp_path / "pin", "73195")
    source = PinFile(path)
    before = source.version()
    assert source.version() == before
    path.write_text("731955")
    assert source.version() != before


def test_a_credential_is_read_where_systemd_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = write_pin(tmp_path / "token-pin", "73195")
    # What an ACL for the service's user looks like to stat.
    path.chmod(0o440)
    assert PinCredential("token-pin").read().reveal() == "73195"
    version = PinCredential("token-pin").version()
    # As systemd does at each start of a service.
    os.utime(path, ns=(1, 1))
    assert PinCredential("token-pin").version() == version
    path.chmod(0o600)
    path.write_text("7319555")
    assert PinCredential("token-pin").version() != version
    path.write_text("73195")
    with refused("pin-file"):
        PinCredential("absent").read()
    for name in ("../pin", "", "..", "a/b"):
        with refused("pin-credential"):
            PinCredential(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with refused("pin-credential"):
        PinCredential("token-pin")


def test_somebody_is_asked_once() -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        return "73195"

    source = PinPrompt(ask)
    assert source.read().reveal() == source.read().reveal() == "73195"
    assert len(asked) == 1
    assert source.version() == source.version() != PinPrompt(ask).version()


def test_a_pin_does_not_show() -> None:
    pin = Pin("73195")
    assert "73195" not in f"{pin} {pin!r} {[pin]} {PinPrompt(lambda: '73195').__dict__}"
    assert not hasattr(pin, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(pin)
    with pytest.raises(TypeError):
        copy.copy(pin)
