"""``dongled ca`` on a real token, its certificates judged by openssl, by the token and by our own policy."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from dongled.agent.cli.main import main
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.policy.profile import ARC
from dongled.agent.policy.verifier import CertificatePolicy
from dongled.tokens.softhsm import configure, find_module
from support.authority import der, point
from support.openssl import openssl

Dongled = Callable[..., Result]


def ok(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def dongled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dongled:
    for name, value in configure(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DONGLED_TOKEN__MODULE", find_module())
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    return run


@pytest.fixture
def token(dongled: Dongled, tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes a token by label; returns the options that open it."""

    def make(label: str) -> list[str]:
        for pin in ("pin", "so-pin"):
            path = tmp_path / f"{label}.{pin}"
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(4))
        made = ok(
            dongled(
                "token", "init", "--label", label, "--pin-file", f"{label}.pin", "--so-pin-file",
                f"{label}.so-pin", "--json",
            )
        )  # fmt: skip
        return ["--uri", made["uri"], "--pin-file", f"{label}.pin"]

    return make


def test_from_blank_tokens_to_a_terminal_that_is_believed(
    dongled: Dongled, token: Callable[[str], list[str]], tmp_path: Path
) -> None:
    authority, terminal = token("authority"), token("terminal")
    made = ok(
        dongled("ca", "init", *authority, "--subject", "CN=lab,O=Example", "--output", "root.pem", "--json")
    )
    assert made["created"] is True
    assert made["subject"] == "CN=lab,O=Example"
    again = ok(dongled("ca", "init", *authority, "--output", "again.pem", "--json"))
    assert (again["created"], again["sha256"]) == (False, made["sha256"])
    assert (tmp_path / "again.pem").read_bytes() == (tmp_path / "root.pem").read_bytes()

    for role, how in {
        "identity": ["--role", "viewer", "--role", "publisher"],
        "data": ["--identity", "identity.pem"],
    }.items():
        ok(dongled("token", "keygen", "--role", role, *terminal, "--json"))
        csr = ok(
            dongled(
                "token",
                "csr",
                "--role",
                role,
                *terminal,
                "--subject",
                "CN=door",
                "--output",
                f"{role}.csr",
                "--json",
            )
        )
        wanted = ["--csr", f"{role}.csr", "--kind", role, "--assurance", "software", "--days", "30", *how]
        issued = ok(dongled("ca", "issue", *authority, *wanted, "--output", f"{role}.pem", "--json"))
        assert issued["terminal"] == csr["terminal"]
        assert "OK" in openssl(tmp_path, "verify", "-x509_strict", "-CAfile", "root.pem", f"{role}.pem")
        ok(dongled("token", "import-cert", "--role", role, *terminal, f"{role}.pem", "--json"))
    text = openssl(tmp_path, "x509", "-in", "identity.pem", "-noout", "-text")
    assert f"{ARC}.1.1" in text
    assert f"{ARC}.1.2" in text

    policy = CertificatePolicy([(tmp_path / "root.pem").read_bytes()], TrustedClock("system"))
    identity, data = (
        x509.load_pem_x509_certificate((tmp_path / f"{role}.pem").read_bytes())
        for role in ("identity", "data")
    )
    known = policy.check_identity([der(identity)])
    assert known.roles == {"viewer", "publisher"}
    assert policy.check_data_key(known, [der(data)], point(data)) == "software"


def test_the_root_is_printed_where_no_file_is_named(
    dongled: Dongled, token: Callable[[str], list[str]]
) -> None:
    result = dongled("ca", "init", *token("authority"))
    assert result.exit_code == 0
    assert (
        x509.load_pem_x509_certificate(result.stdout.encode()).subject.rfc4514_string() == "CN=dongled lab CA"
    )


def test_a_root_is_not_renamed(dongled: Dongled, token: Callable[[str], list[str]]) -> None:
    authority = token("authority")
    ok(dongled("ca", "init", *authority, "--json"))
    result = dongled("ca", "init", *authority, "--subject", "CN=another")
    assert result.exit_code == 1
    assert "[root-exists]" in result.stderr


def test_an_authority_that_was_interrupted_goes_on(
    dongled: Dongled, token: Callable[[str], list[str]]
) -> None:
    authority = token("authority")
    key = ok(dongled("token", "keygen", "--role", "ca", *authority, "--json"))
    made = ok(dongled("ca", "init", *authority, "--json"))
    root = x509.load_pem_x509_certificate(made["certificate"].encode())
    assert made["created"] is True
    assert point(root).hex() == key["point"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "data", "--role", "viewer", "--identity", "csr"], "roles belong to the identity"),
        (["--kind", "data"], "--identity"),
        (["--kind", "identity", "--role", "viewer", "--identity", "csr"], "--identity"),
        (["--kind", "identity", "--role", "admin"], "'admin' is not one of"),
    ],
)
def test_what_does_not_fit_together_is_a_usage_error(
    dongled: Dongled, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "csr").write_text("")
    result = dongled(
        "ca", "issue", "--uri", "pkcs11:token=x", "--csr", "csr", "--assurance", "software", *arguments
    )
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_bad_request_is_refused_before_the_token_is_touched(dongled: Dongled, tmp_path: Path) -> None:
    (tmp_path / "csr").write_text("garbage")
    wanted = ["--csr", "csr", "--assurance", "software", "--kind", "identity", "--role", "viewer"]
    result = dongled("ca", "issue", "--uri", "pkcs11:token=absent", *wanted)
    assert result.exit_code == 1
    assert "[request-garbage]" in result.stderr


def test_without_a_root_nothing_is_issued(
    dongled: Dongled, token: Callable[[str], list[str]], tmp_path: Path
) -> None:
    authority = token("authority")
    ok(dongled("token", "keygen", "--role", "identity", *authority, "--json"))
    ok(dongled("token", "keygen", "--role", "ca", *authority, "--json"))
    request = ["--role", "identity", "--subject", "CN=x", "--output", "csr", "--json"]
    ok(dongled("token", "csr", *authority, *request))
    wanted = ["--csr", "csr", "--assurance", "software", "--kind", "identity", "--role", "viewer"]
    result = dongled("ca", "issue", *authority, *wanted, "--output", "leaf.pem")
    assert result.exit_code == 1
    assert "[no-root]" in result.stderr
    assert not (tmp_path / "leaf.pem").exists()
