"""A certificate of a version that does not exist: what cryptography says of it is no ValueError."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from dongled.agent.certificates.authority import load_certificate
from dongled.agent.cli.token import _read_certificate
from dongled.agent.enrolment.kept import KeptChains
from dongled.agent.errors import AgentError
from dongled.agent.policy.certificates import CertificateVerifier
from dongled.agent.policy.clock import TrustedClock
from dongled.agent.terminal import own_name
from dongled.agent.wiring import chain_in_use
from dongled.config.api import KeyPin
from dongled.tokens.api import KeyRole
from dongled.tokens.describe import certified_point, issued_at
from dongled.tokens.errors import TokenError
from support.authority import Authority, der

V3, V6 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"


@pytest.fixture(scope="module")
def absurd() -> bytes:
    good = der(Authority.root().certificate)
    assert good.count(V3) == 1
    return good.replace(V3, V6)


@pytest.fixture
def file(tmp_path: Path, absurd: bytes) -> Path:
    path = tmp_path / "identity.pem"
    body = base64.encodebytes(absurd).decode()
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    return path


def test_a_file_that_the_settings_name(file: Path) -> None:
    pin = KeyPin(id="01", sha256="0" * 64, certificate=file)
    with pytest.raises(AgentError) as refused:
        chain_in_use(pin, None, None)  # type: ignore[arg-type]  # neither key nor kept chain is looked at
    assert refused.value.reason == "certificate-file"


def test_a_file_to_import(file: Path) -> None:
    with pytest.raises(TokenError) as refused:
        _read_certificate(file)
    assert refused.value.reason == "certificate-malformed"


def test_a_file_for_the_authority(file: Path) -> None:
    with pytest.raises(AgentError) as refused:
        load_certificate(file.read_bytes())
    assert refused.value.reason == "certificate-garbage"


def test_a_root(file: Path) -> None:
    with pytest.raises(AgentError) as refused:
        CertificateVerifier([file.read_bytes()], TrustedClock())
    assert refused.value.reason == "bad-root"


def test_what_was_kept_is_ignored(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = file.parent / "certificates"
    kept.mkdir()
    assert KeptChains(file.parent).load(KeyRole.IDENTITY) == []
    file.rename(KeptChains(file.parent)._path(KeyRole.IDENTITY))
    assert KeptChains(file.parent).load(KeyRole.IDENTITY) == []
    assert "are ignored" in caplog.text


def test_what_the_token_holds(absurd: bytes) -> None:
    with pytest.raises(AgentError) as refused:
        own_name(absurd)
    assert refused.value.reason == "own-certificate"
    assert certified_point(absurd) is None
    assert issued_at(absurd) == -float("inf")
