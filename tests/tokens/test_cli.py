"""``dongled token`` as its user types it, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from dongled.tokens import softhsm
from tokens.bench import SoftToken, new_pin, write_pin
from tokens.test_provision import certify

_CALL = "import sys; from dongled.agent.cli.token import command; command(prog_name='dongled token')"


def token_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _CALL, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(*arguments: str) -> Any:
    done = token_command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_from_a_blank_token_to_a_certified_terminal(store: Path) -> None:
    module = ("--module", softhsm.find_module())
    pins = (
        "--so-pin-file", str(write_pin(store / "so", new_pin())),
        "--pin-file", str(write_pin(store / "pin", new_pin())),
    )  # fmt: skip
    assert [found["initialized"] for found in answer("list", *module)] == [False]
    made = answer("init", *module, "--label", "camera 1", *pins)
    assert made["changed"] is True
    assert answer("init", *module, "--label", "camera 1", *pins)["changed"] is False
    assert token_command("init", *module, "--label", "camera 1", *pins).stdout == made["uri"] + "\n"

    login = (*module, "--uri", made["uri"], *pins[2:])
    for role in ("identity", "data"):
        key = answer("keygen", *login, "--role", role)
        assert key["role"] == role
        assert key["attributes"]["never_extractable"] is True
        out = store / f"{role}.csr"
        asked = answer("csr", *login, "--role", role, "--subject", "CN=camera 1", "--output", str(out))
        assert out.read_text() == asked["csr"]
        assert asked["terminal"].startswith("urn:uuid:")
        usage = "digital_signature" if role == "identity" else "key_agreement"
        certificate = certify(bytes.fromhex(key["point"]), usage=usage)
        path = store / f"{role}.crt"
        path.write_bytes(certificate.public_bytes(Encoding.DER))
        stored = answer("import-cert", *login, "--role", role, str(path))
        assert stored["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    shown = answer("show", *login)
    assert shown["serial"] == made["serial"]
    assert set(shown["keys"]) == {"identity", "data"}
    assert shown["refused"] == {}
    text = token_command("show", *login).stdout
    assert shown["keys"]["data"]["sha256"] in text
    assert "certificate CN=camera 1,O=Example" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"--pin-file": "wrong"}, "pin-wrong"),
        ({"--pin-file": "absent"}, "pin-file"),
        ({"--pin-file": None}, "pin-missing"),
        ({"--module": "/nowhere.so"}, "module-missing"),
        ({"--uri": "pkcs11:token=nobody"}, "token-absent"),
        ({"--uri": "pkcs11:token=terminal?pin-value=7319"}, "uri-holds-pin"),
    ],
)
def test_an_error_is_one_line_and_a_hint(
    token: SoftToken, change: dict[str, str | None], reason: str
) -> None:
    token.wrong_pin()
    options: dict[str, str | None] = {"--module": token.module, "--uri": token.uri, "--pin-file": "pin"}
    options |= change
    if options["--pin-file"] is not None:
        options["--pin-file"] = str(token.directory / options["--pin-file"])
    given = [part for name, value in options.items() if value is not None for part in (name, value)]
    done = token_command("show", *given)
    # A refused PIN must not be tried again by a service manager (docs/operations.md, Exit codes).
    assert done.returncode == (78 if reason == "pin-wrong" else 1)
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert error.endswith(f"[{reason}]")
    assert hint.startswith("hint: ")
    assert "7319" not in done.stderr
    assert token.pin_text not in done.stderr


def test_the_pin_is_asked_for_at_a_terminal(token: SoftToken) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _CALL, "show", "--json", "--module", token.module, "--uri", token.uri],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as asking:
        os.close(theirs)
        shown = b""
        while b"PIN:" not in shown:
            shown += os.read(ours, 100)
        os.write(ours, token.pin_text.encode() + b"\n")
        assert asking.stdout is not None
        assert set(json.load(asking.stdout)["keys"]) == {"identity", "data"}
        os.close(ours)
    assert asking.returncode == 0


def test_help_is_quick_and_imports_no_cryptography() -> None:
    check = "import dongled.agent.cli.token, sys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
