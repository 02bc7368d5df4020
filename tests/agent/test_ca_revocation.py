"""Revoking with ``dongled ca``: on a real token, its lists judged by openssl and by our own policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from dongled.agent.certificates.authority import CaError, issue_identity, load_request, make_root
from dongled.agent.certificates.register import Register, opened
from dongled.agent.certificates.revocation_list import make_crl
from dongled.agent.cli.ca import REVOCATION_REASONS
from dongled.agent.cli.main import main
from dongled.agent.policy.crl import verify_crl
from dongled.agent.policy.profile import Assurance, Role
from dongled.agent.policy.revocation import Pair, Status
from dongled.tokens.softhsm import configure, find_module
from support.authority import name, new_key, pem, urn
from support.openssl import openssl

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
KEY = new_key()
ROOT = make_root(KEY, name("lab"), 365, NOW)


def request(terminal: str) -> bytes:
    key = new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("terminal"))
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(terminal)])

    return builder.add_extension(san, False).sign(key, SHA256()).public_bytes(Encoding.PEM)


def issue(terminal: str, key: Any = KEY, root: x509.Certificate = ROOT) -> x509.Certificate:
    how: dict[str, Any] = {"roles": [Role.VIEWER], "assurance": Assurance.SOFTWARE, "days": 30, "now": NOW}
    return issue_identity(key, root, load_request(request(terminal)), **how)


def status(crl: x509.CertificateRevocationList, leaf: x509.Certificate, now: datetime = NOW) -> Status:
    return verify_crl(pem_of(crl), ROOT, now, DAY).answer(Pair(leaf, ROOT)).status


def pem_of(crl: x509.CertificateRevocationList) -> bytes:

    return crl.public_bytes(Encoding.PEM)


def test_the_list_by_our_own_policy_and_by_openssl(tmp_path: Path) -> None:
    kept, lost = issue(urn()), issue(urn())
    register = Register("")
    assert register.revoke(lost.serial_number, "keyCompromise", NOW)
    crl = make_crl(KEY, ROOT, register, 1, NOW)
    assert status(crl, kept) is Status.GOOD
    assert status(crl, lost) is Status.REVOKED
    assert status(crl, kept, NOW + DAY) is Status.GOOD
    (tmp_path / "root.pem").write_bytes(pem(ROOT))
    (tmp_path / "root.crl").write_bytes(pem_of(crl))
    assert "verify OK" in openssl(
        tmp_path, "crl", "-in", "root.crl", "-noout", "-CAfile", "root.pem", "-verify"
    )
    text = openssl(tmp_path, "crl", "-in", "root.crl", "-noout", "-text")
    assert "Key Compromise" in text
    assert "X509v3 CRL Number" in text


@pytest.mark.parametrize("reason", REVOCATION_REASONS)
def test_each_reason(reason: str) -> None:
    leaf = issue(urn())
    register = Register("")
    register.revoke(leaf.serial_number, reason, NOW)
    (entry,) = make_crl(KEY, ROOT, register, 1, NOW)
    said = [extension.value.reason.value for extension in entry.extensions]
    assert said == ([] if reason == "unspecified" else [reason])


def test_numbers_rise_and_nobody_is_revoked_twice(tmp_path: Path) -> None:
    path, leaf = tmp_path / "register.json", issue(urn())
    for number in (1, 2):
        with opened(path, ROOT) as register:
            assert register.revoke(leaf.serial_number, "superseded", NOW) is (number == 1)
            make_crl(KEY, ROOT, register, 1, NOW)
            assert (register.number, len(register.revoked)) == (number, 1)


def test_a_register_of_another_root_or_of_rubbish_is_not_written_over(tmp_path: Path) -> None:
    path, other = tmp_path / "register.json", new_key()
    with opened(path, ROOT):
        pass
    with pytest.raises(CaError) as caught, opened(path, make_root(other, name("other"), 30, NOW)):
        pass
    assert caught.value.reason == "wrong-root"
    for rubbish in (
        "",
        "{}",
        "[]",
        path.read_text().replace('"revoked": []', '"revoked": [{"serial": "x"}]'),
    ):
        path.write_text(rubbish)
        with pytest.raises(CaError) as caught, opened(path, ROOT):
            pass
        assert caught.value.reason == "register"
        assert path.read_text() == rubbish


def test_what_fails_leaves_the_register_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "register.json"
    with pytest.raises(CaError), opened(path, ROOT) as register:
        make_crl(new_key(), ROOT, register, 1, NOW)
    assert not path.exists()
    with pytest.raises(CaError), opened(tmp_path / "nowhere" / "register.json", ROOT):
        pass


def test_a_key_of_another_root_signs_no_list() -> None:
    with pytest.raises(CaError) as caught:
        make_crl(new_key(), ROOT, Register(""), 1, NOW)
    assert caught.value.reason == "wrong-root"


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`dongled ca` on a token with a root, in root.pem."""
    for variable, value in configure(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("DONGLED_TOKEN__MODULE", find_module())
    monkeypatch.chdir(tmp_path)
    for pin in ("pin", "so-pin"):
        (tmp_path / pin).touch(mode=0o600)
        (tmp_path / pin).write_text(f"{new_key().private_numbers().private_value:x}"[:8])

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    made = run("token", "init", "--label", "ca", "--pin-file", "pin", "--so-pin-file", "so-pin", "--json")
    token = ["--uri", json.loads(made.stdout)["uri"], "--pin-file", "pin"]

    def authority(command: str, *arguments: str) -> Result:
        return run("ca", command, *token, *arguments)

    assert authority("init", "--output", "root.pem").exit_code == 0
    return authority


def test_a_lost_terminal_is_revoked_by_its_name(lab: Callable[..., Result], tmp_path: Path) -> None:
    terminals = {"lost": urn(), "kept": urn()}
    for who, terminal in terminals.items():
        (tmp_path / f"{who}.csr").write_bytes(request(terminal))
        issued = lab(
            "issue", "--csr", f"{who}.csr", "--kind", "identity", "--role", "viewer",
            "--assurance", "software", "--register", "register.json", "--output", f"{who}.pem",
        )  # fmt: skip
        assert issued.exit_code == 0, issued.output
    register = ["--register", "register.json", "--output", "root.crl"]
    done = lab("revoke", *register, "--terminal", terminals["lost"], "--reason", "keyCompromise", "--json")
    assert done.exit_code == 0, done.output
    lost = x509.load_pem_x509_certificate((tmp_path / "lost.pem").read_bytes())
    assert json.loads(done.stdout)["revoked"] == [f"{lost.serial_number:x}"]
    check = ("-crl_check", "-CAfile", "root.pem", "-CRLfile", "root.crl")
    assert "OK" in openssl(tmp_path, "verify", *check, "kept.pem")
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl(tmp_path, "verify", *check, "lost.pem")

    again = lab("crl", *register)
    assert "list 2 of 1 revoked" in again.output
    both = lab("revoke", *register, "--certificate", "kept.pem", "--certificate", "lost.pem", "--json")
    assert json.loads(both.stdout)["entries"] == 2
    root = x509.load_pem_x509_certificate((tmp_path / "root.pem").read_bytes())
    kept = x509.load_pem_x509_certificate((tmp_path / "kept.pem").read_bytes())
    found = verify_crl((tmp_path / "root.crl").read_bytes(), root, datetime.now(UTC), DAY)
    assert found.answer(Pair(kept, root)).status is Status.REVOKED


def test_what_cannot_be_revoked_here(lab: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "foreign.pem").write_bytes(pem(issue(urn())))
    register = ["--register", "register.json"]
    for arguments, reason in (
        (["--certificate", "foreign.pem"], "[not-issued]"),
        (["--terminal", urn()], "[not-issued]"),
        (["--certificate", "pin"], "[certificate-garbage]"),
    ):
        refused = lab("revoke", *register, *arguments)
        assert refused.exit_code == 1
        assert reason in refused.stderr
    assert lab("revoke", *register).exit_code == 2
    assert lab("revoke", *register, "--terminal", urn(), "--certificate", "foreign.pem").exit_code == 2
    assert not (tmp_path / "register.json").exists()
